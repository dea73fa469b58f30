"""Exact confidence interval of a proportion, also if some patients have several photographs."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, t

from worker.evaluation.bootstrap import LEVEL, Estimate


def exact_interval(hits: NDArray[np.bool_], clusters: NDArray[np.int64]) -> Estimate:
    """Return the share of hits with the interval of Clopper and Pearson (1934).

    hits, clusters: (N,), N at least 1. If a cluster has several images, N is replaced by the effective sample size, N
    divided by the design effect, as Korn and Graubard (1998) do: images of one patient that are right or wrong together
    count as one. The design effect of equal hits cannot be measured; then the clusters count. A bootstrap would give an
    interval without width there.
    """
    share = float(hits.mean())
    effective = _effective_size(hits, clusters)
    successes = share * effective
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, successes, effective - successes + 1)) if share > 0 else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, effective - successes)) if share < 1 else 1.0
    return Estimate(share, low, high)


def _effective_size(hits: NDArray[np.bool_], clusters: NDArray[np.int64]) -> float:
    count, share = len(hits), float(hits.mean())
    _, members = np.unique(clusters, return_inverse=True)
    groups = int(members.max()) + 1
    if groups == count or share in (0, 1) or groups == 1:
        return float(groups)
    residuals = np.bincount(members, hits - share)
    clustered = groups / (groups - 1) * float((residuals**2).sum()) / count**2
    independent = share * (1 - share) / (count - 1)
    # Few clusters estimate their variance badly; the second factor allows for it.
    few = t.ppf(LEVEL / 2 + 0.5, count - 1) / t.ppf(LEVEL / 2 + 0.5, groups - 1)
    return min(count, count * independent / clustered * few**2) if clustered else float(count)
