"""A rollout in words: the lines of a log, and the summary at its end."""

from typing import TYPE_CHECKING

from edgetool.fleet.rollout import DeviceState, Rollout
from edgetool.units import format_bytes

if TYPE_CHECKING:
    from edgetool.fleet.deploy import Preview, Waves


def changes(before: Rollout | None, after: Rollout) -> list[str]:
    """What happened between two states, one line for each device and each wave."""
    lines = []
    was = {} if before is None else {device.name: device.state for device in before.devices}
    waves = len(after.targets)
    if before is None:
        lines.append(f"{after.bundle_name} to {len(after.devices)} devices in {waves} waves: {wave_sizes(after)}")
    wave = min(after.proven + 1, waves)
    lines += [
        f"wave {wave} of {waves}  {device.name}: {_happened(device)}"
        for device in after.devices
        if was.get(device.name, "waiting") != device.state
    ]
    if before is not None and after.proven > before.proven:
        lines.append(f"wave {after.proven} of {waves} passed its gate: {after.count('updated')} devices are updated")
    if before is not None and after.status not in {before.status, "running"}:
        lines.append(f"the rollout is {after.status}")
    return lines


def _happened(device: DeviceState) -> str:
    if device.state == "updated":
        sent = "" if device.sent_bytes is None else f", {format_bytes(device.sent_bytes)} sent"
        return f"updated to {device.release} in {device.seconds or 0:.1f} s{sent}"
    return device.state if device.reason is None else f"{device.state}: {device.reason}"


def wave_sizes(rollout: Rollout) -> str:
    """`1, then 2, then 20`."""
    return ", then ".join(map(str, rollout.targets))


def preview_words(preview: "Preview", how: "Waves") -> str:
    """What a rollout would do: its waves by device, what is sent, what is noted."""
    planned, lines, begin = preview.rollout, [], 0
    reachable = [device for device in planned.devices if device.state != "unreached"]
    for number, target in enumerate(planned.targets, 1):
        names = [device.name for device in reachable[begin:target]]
        sent = sum(preview.bytes_to_send[name] for name in names)
        if names:
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            lines.append(f"wave {number}: {shown}; at most {format_bytes(sent)} to send")
        begin = target
    lines += [f"does not answer: {name}: {reason}" for name, reason in preview.unreached.items()]
    for note in dict.fromkeys(note for notes in preview.notes.values() for note in notes):
        names = [name for name, notes in preview.notes.items() if note in notes]
        lines.append(f"note on {len(names)} of {len(planned.devices)} devices: {note}")
    gate = f"{how.soak_s:g} s after a wave its devices have to be healthy; more than {how.max_failed} that fail halt it"
    return "\n".join([*lines, gate, "dry run: nothing was changed"])


def summary(rollout: Rollout) -> str:
    """How a rollout ended, with every device that did not take it; the verdict in the last line."""
    lines = []
    for device in (*rollout.having("failed"), *rollout.having("unreached")):
        runs = "" if device.release is None else f" (runs {device.release})"
        lines.append(f"{device.state:<10} {device.name:<20} {device.reason}{runs}")
    done, total = rollout.count("updated"), len(rollout.devices)
    waiting = rollout.count("waiting")
    if rollout.status == "halted":
        verdict = f"HALTED in wave {rollout.proven + 1} of {len(rollout.targets)}: {done} of {total} devices run it"
        if waiting:
            verdict += f", {waiting} were not touched"
        return "\n".join([*lines, verdict])
    return "\n".join([*lines, f"{rollout.status}: {done} of {total} devices run {rollout.bundle_name}"])
