"""Whether a face is good enough to be compared: size, sharpness, light and pose."""

from dataclasses import dataclass

import cv2
import numpy as np

from device_apps.door_lock.detect import Face, Picture

DARK, BRIGHT = 16, 239  # beyond these a pixel holds no texture any more (the range of video black and white)


@dataclass(frozen=True)
class Quality:
    """What was measured on one face.

    `eye_distance_px` in the camera's picture; `sharpness` the variance of the Laplacian of the aligned grey face
    (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000); `light` its mean and `contrast`
    its standard deviation, 0 to 255; `clipped` the fraction of pixels that are black or white; `yaw` how far the nose
    is from the middle of the eyes along the line of the eyes, in eye distances (0 is frontal, 0.5 about a profile);
    `pitch` where the nose is between eyes (0) and mouth (1); `roll_deg` the slope of the eyes.
    """

    eye_distance_px: float
    sharpness: float
    light: float
    contrast: float
    clipped: float
    yaw: float
    pitch: float
    roll_deg: float


@dataclass(frozen=True)
class QualityLimits:
    """What a face must have to count; the units are those of `Quality`."""

    min_eye_distance_px: float = 28.0
    min_sharpness: float = 60.0
    min_light: float = 40.0
    max_light: float = 215.0
    min_contrast: float = 18.0
    max_clipped: float = 0.4
    max_yaw: float = 0.3
    min_pitch: float = 0.3
    max_pitch: float = 0.75
    max_roll_deg: float = 30.0

    def __post_init__(self) -> None:
        if self.min_light > self.max_light or self.min_pitch > self.max_pitch:
            raise ValueError("a lower limit is above its upper limit")


def measure(face: Face, aligned: Picture) -> Quality:
    """The quality of a face and of its aligned picture, BGR [112, 112, 3]."""
    eyes, nose, mouth = face.landmarks[:2], face.landmarks[2], face.landmarks[3:].mean(axis=0)
    across = eyes[1] - eyes[0]
    distance = float(np.linalg.norm(across)) or 1e-6
    along = across / distance
    down = np.array([-along[1], along[0]])
    middle = eyes.mean(axis=0)
    depth = float((mouth - middle) @ down)
    grey = cv2.cvtColor(aligned, cv2.COLOR_BGR2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    _, spread = cv2.meanStdDev(edges)
    clipped = cv2.countNonZero(cv2.inRange(grey, DARK, BRIGHT))
    return Quality(
        eye_distance_px=distance,
        sharpness=float(spread[0, 0]) ** 2,
        light=float(mean[0, 0]),
        contrast=float(deviation[0, 0]),
        clipped=1 - clipped / grey.size,
        yaw=float((nose - middle) @ along) / distance,
        pitch=float((nose - middle) @ down) / depth if abs(depth) > 1e-6 else 0.0,
        roll_deg=float(np.degrees(np.arctan2(across[1], across[0]))),
    )


def shortcomings(quality: Quality, limits: QualityLimits) -> tuple[str, ...]:
    """What is wrong with a face, each as advice to whoever stands before the camera; none where it is good."""
    checks = (
        (quality.eye_distance_px < limits.min_eye_distance_px, "come closer"),
        (abs(quality.roll_deg) > limits.max_roll_deg, "hold your head upright"),
        (abs(quality.yaw) > limits.max_yaw, "look at the camera"),
        (not limits.min_pitch <= quality.pitch <= limits.max_pitch, "raise or lower your head"),
        (quality.light < limits.min_light, "too dark"),
        (quality.light > limits.max_light or quality.clipped > limits.max_clipped, "too bright or too harsh a light"),
        (quality.contrast < limits.min_contrast, "too little contrast"),
        (quality.sharpness < limits.min_sharpness, "hold still"),
    )
    return tuple(advice for failed, advice in checks if failed)
