"""The DET curve (detection error trade-off) of a face matcher, as SVG: false matches across, false non-matches up.

Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997; here both axes are
logarithmic, from 0.0001 to 1.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LEFT, TOP, WIDTH, HEIGHT, DECADES = 60, 20, 400, 300, 4
SAID = {0: "1", -1: "0.1", -2: "0.01", -3: "0.001", -4: "0.0001"}


def det_svg(scored: Mapping[str, tuple[Floats, npt.NDArray[np.bool_]]], weights: Floats) -> str:
    """The curves "float" and "int8", each of similarities and whether a pair is of one person, [pairs].

    `weights` [resamples, pairs] make the band of 95 % around int8's.
    """
    fmrs = np.logspace(-4, -0.5, 60)
    lines: dict[str, str] = {}
    band = ""
    for name, (similarity, genuine) in scored.items():
        thresholds = np.quantile(similarity[~genuine], 1 - fmrs)
        own = similarity[genuine]
        lines[name] = _points(fmrs, np.array([(own < threshold).mean() for threshold in thresholds]))
        if name == "int8":
            of_genuine = weights[:, genuine]
            total = of_genuine.sum(axis=1)
            missed = np.stack([(of_genuine @ (own < threshold)) / total for threshold in thresholds], axis=1)
            low, high = np.quantile(missed, (0.025, 0.975), axis=0)
            band = f"{_points(fmrs, high)} {_points(fmrs[::-1], low[::-1])}"
    axes = []
    for power, said in SAID.items():
        x, y = _place(10.0**power, 10.0**power)
        axes += [
            f'<path d="M{x:.0f} {TOP}V{TOP + HEIGHT}M{LEFT} {y:.0f}H{LEFT + WIDTH}" stroke="#ddd"/>',
            f'<text x="{x:.0f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{said}</text>',
            f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{said}</text>',
        ]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 370" font-family="sans-serif" font-size="11">',
        "<title>DET curve of the door lock on the ORL faces, people 16 to 30</title>",
        '<rect width="480" height="370" fill="white"/>',
        *axes,
        f'<polygon points="{band}" fill="#cde" fill-opacity="0.7"/>',
        f'<polyline points="{lines["float"]}" fill="none" stroke="#888" stroke-width="3"/>',
        f'<polyline points="{lines["int8"]}" fill="none" stroke="#036" stroke-width="1.5"/>',
        '<text x="260" y="358" text-anchor="middle">false match rate</text>',
        '<text transform="rotate(-90 14 170)" x="14" y="170" text-anchor="middle">false non-match rate</text>',
        '<text x="290" y="40" fill="#888">float</text>',
        '<text x="330" y="40" fill="#036">int8, 95 % over people</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _place(fmr: float, fnmr: float) -> tuple[float, float]:
    across, down = (np.log10(np.clip(rate, 10.0**-DECADES, 1)) for rate in (fmr, fnmr))
    return float(LEFT + WIDTH * (across + DECADES) / DECADES), float(TOP - HEIGHT * down / DECADES)


def _points(fmrs: Floats, fnmrs: Floats) -> str:
    places = (_place(fmr, fnmr) for fmr, fnmr in zip(fmrs.tolist(), fnmrs.tolist(), strict=True))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
