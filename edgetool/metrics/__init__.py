"""Metrics: what a model's outputs are worth. `METRICS` is the one table; `topk(k)` makes other k than 5."""

from edge.errors import UnknownName
from edgetool.metrics.accuracy import ACCURACY, topk
from edgetool.metrics.auc import AUC
from edgetool.metrics.cosine import COSINE
from edgetool.metrics.eer import EER
from edgetool.metrics.mae_rmse import MAE, RMSE
from edgetool.metrics.metric import Metric
from edgetool.metrics.perplexity import PERPLEXITY
from edgetool.metrics.precision_recall import F1, PRECISION, RECALL
from edgetool.metrics.psnr import PSNR
from edgetool.metrics.wer import WER

__all__ = ["METRICS", "Metric", "metric", "topk"]

METRICS: dict[str, Metric] = {
    "accuracy": ACCURACY,
    "top5": topk(5),
    "precision": PRECISION,
    "recall": RECALL,
    "f1": F1,
    "auc": AUC,
    "eer": EER,
    "mae": MAE,
    "rmse": RMSE,
    "wer": WER,
    "perplexity": PERPLEXITY,
    "psnr": PSNR,
    "cosine": COSINE,
}


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UnknownName: there is none; the hint has the nearest names.

    """
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    return METRICS[name]
