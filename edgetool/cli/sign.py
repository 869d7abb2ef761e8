"""`edgetool sign`, `edgetool verify` and `edgetool keys`: who made a bundle."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle (*.edge).")]

keys = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make keys to sign with, and say which are trusted."
)


def sign(
    bundle: Bundle,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="The private key, on P-256, P-384 or P-521.")] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="The certificate of the key; devices then trust its root.")
    ] = None,
    chain: Annotated[
        list[Path] | None,
        typer.Option(metavar="PEM", help="A certificate between it and the root (may be given again)."),
    ] = None,
    sigstore: Annotated[
        bool, typer.Option("--sigstore", help="Sign as whom CI or a login says; needs sigstore's network.")
    ] = False,
) -> None:
    """Sign a bundle, in place, with OpenSSF's model-signing.

    \b
    Examples:
      edgetool keys new keys/maker
      edgetool sign out/model.edge --key keys/maker.key
      edgetool sign out/model.edge --key keys/leaf.key --certificate leaf.pem --chain middle.pem
    """
    from edge.errors import BadRecipe
    from edgetool.signing import sign_with_certificate, sign_with_key, sign_with_sigstore

    if sigstore == (key is not None):
        raise BadRecipe("a bundle is signed with --key or with --sigstore", "edgetool keys new makes a key")
    if (certificate is not None and key is None) or (chain and certificate is None):
        raise BadRecipe("--chain belongs to --certificate, and that to --key", "give all of them")
    if key is None:
        sign_with_sigstore(bundle)
    elif certificate is None:
        sign_with_key(bundle, key)
    else:
        sign_with_certificate(bundle, key, certificate, chain or ())
    typer.echo(f"{bundle}: signed")


def verify(
    bundle: Bundle,
    key: Annotated[list[Path] | None, typer.Option(metavar="PEM", help="A public key that is trusted.")] = None,
    certificate: Annotated[
        list[Path] | None, typer.Option(metavar="PEM", help="A certificate whose descendants are trusted.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who signed with sigstore; needs sigstore's network.")
    ] = None,
    identity_provider: Annotated[str | None, typer.Option(metavar="URL", help="Who says so.")] = None,
) -> None:
    """Check who signed a bundle, then every hash in it. On a device: python -m edge verify.

    \b
    Examples:
      edgetool verify out/model.edge --key keys/maker.pub
      edgetool verify out/model.edge --certificate root.pem
    """
    from edge.errors import BadRecipe
    from edge.trust.signature import Trusted
    from edgetool.signing import SigstoreIdentity, verify_bundle, verify_sigstore

    if (identity is None) != (identity_provider is None):
        raise BadRecipe("--identity and --identity-provider belong together", "give both")
    if identity is not None and identity_provider is not None:
        if key or certificate:
            raise BadRecipe("--identity stands alone", "check --key or --certificate in a run of its own")
        verify_sigstore(bundle, SigstoreIdentity(identity, identity_provider))
        typer.echo(f"{bundle}: signed by {identity}, content whole")
        return
    signer = verify_bundle(bundle, Trusted(tuple(key or ()), tuple(certificate or ())))
    who = f"key {signer.key_sha256[:16]}" if signer.subject is None else signer.subject
    typer.echo(f"{bundle}: signed by {who}, content whole")


@keys.command("new")
def new(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Writes NAME.key (private) and NAME.pub.")],
    kind: Annotated[
        Literal["ecdsa", "ed25519"],
        typer.Option(help="ecdsa (P-256) signs bundles, ed25519 the roles of a channel."),
    ] = "ecdsa",
) -> None:
    """Make a key pair. EDGETOOL_KEY_PASSWORD, where it is set, encrypts the private key.

    \b
    Examples:
      edgetool keys new keys/maker
    """
    from edgetool.keys import new_keys

    private, public = new_keys(name, kind)
    typer.echo(f"{private}\tprivate: keep it off devices and out of repositories\n{public}\tpublic: devices get it")


PublicKey = Annotated[Path, typer.Argument(metavar="PEM", help="A public key (.pub).")]


@keys.command("trust")
def trust(key: Annotated[Path, typer.Argument(metavar="PEM", help="A public key (.pub) or a certificate.")]) -> None:
    """Trust a key: from then on `edgetool deploy` takes signed bundles only.

    \b
    Examples:
      edgetool keys trust keys/maker.pub
    """
    from edgetool.deploy.trust import remember_key

    typer.echo(f"trusted: {remember_key(key, 'trusted')}")


@keys.command("revoke")
def revoke(key: PublicKey) -> None:
    """Take a key back: what it signed is neither deployed nor gone back to any more.

    \b
    Examples:
      edgetool keys revoke keys/maker.pub
    """
    from edgetool.deploy.trust import remember_key

    typer.echo(f"revoked: {remember_key(key, 'revoked')}")
