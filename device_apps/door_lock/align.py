"""A face turned upright at the place and size that embedders were trained on."""

import cv2
import numpy as np
import numpy.typing as npt

from device_apps.door_lock.detect import Picture

SIDE = 112
# Where ArcFace's training data has the eyes, the nose and the corners of the mouth: Deng et al., "ArcFace", CVPR 2019
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)


def similarity(points: npt.NDArray[np.float32], target: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The [2, 3] rotation, scale and shift that takes `points` [n, 2] to `target` with the least squared error.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eq. 40-42.
    In two dimensions it needs no singular value decomposition: with complex p and q, centred, the factor is
    sum(conj(p) q) / sum(|p|^2), which never mirrors.

    Raises:
        ValueError: all points are one.

    """
    p = np.asarray(points, np.float64) @ np.array([1, 1j])
    q = np.asarray(target, np.float64) @ np.array([1, 1j])
    centred = p - p.mean()
    spread = float(np.sum(np.abs(centred) ** 2))
    if not spread > 0:
        raise ValueError("the landmarks are all at one place")
    factor = np.sum(np.conj(centred) * (q - q.mean())) / spread
    shift = q.mean() - factor * p.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def align(picture: Picture, landmarks: npt.NDArray[np.float32]) -> Picture:
    """BGR [H, W, 3] and five landmarks to the upright face, BGR [112, 112, 3]."""
    matrix = similarity(landmarks, TEMPLATE)
    aligned: Picture = cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return aligned
