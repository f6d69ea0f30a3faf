"""Exact distance to the nearest of many points, without comparing with all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 8192
_VALUES = 1 << 25
_BALLS = 2  # times the square root of the number of points
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class _Ball:
    """Points that lie near each other.

    Attributes:
        index: int64, `M`, indices of the points.
        transposed: float32, `channels × M`, the points.
        squares: float32, `M`, their squared norms.
        groups: int64, `M`, or None.
    """

    index: Tensor
    transposed: Tensor
    squares: Tensor
    groups: Tensor | None


class Nearest:
    """The Euclidean distance from queries to the nearest of many points.

    On a CPU the points are clustered, and each cluster lies in a ball around its mean. A query
    searches its nearest ball first, then the balls that are nearer than the nearest point so far
    (triangle inequality). Points of a ball are compared by a matrix product. On other devices all
    points form one ball, because the product is faster than the choice of balls.

    Source: Fukunaga and Narendra 1975, A branch and bound algorithm for computing k-nearest
    neighbors, IEEE Transactions on Computers C-24, 750-753.

    Args:
        points: float32, `M × channels`, M at least 1.
        groups: int64, `M`, 0 or more: a query finds no point of its own group. None: it may find
            all.

    >>> Nearest(torch.tensor([[0.0, 0], [3, 4]])).distance(torch.tensor([[0.0, 1], [3, 4]]))
    tensor([1., 0.])
    """

    def __init__(self, points: Tensor, groups: Tensor | None = None) -> None:
        on_cpu = points.device.type == "cpu"
        member = _clusters(points, int(_BALLS * len(points) ** 0.5) if on_cpu else 1)
        sizes = torch.bincount(member)
        sums = torch.zeros(len(sizes), points.shape[1], device=points.device)
        self._points = points
        self._centres = sums.index_add_(0, member, points) / sizes[:, None]
        away = (points - self._centres[member]).norm(dim=1)
        zeros = torch.zeros(len(sizes), device=points.device)
        self._radii = zeros.scatter_reduce(0, member, away, "amax")
        self._balls, only = [], []
        for index in member.argsort().split(sizes.tolist()):
            its, of = points[index], None if groups is None else groups[index]
            self._balls.append(_Ball(index, its.T.contiguous(), its.square().sum(dim=1), of))
            only.append(-1 if of is None or len(of.unique()) > 1 else int(of[0]))
        # The group of balls that hold one group alone, and -1 for all others.
        self._only = torch.tensor(only, device=points.device)
        self._rows = max(1, min(_ROWS, _VALUES // max(len(sizes), int(sizes.max()))))

    def distance(self, queries: Tensor, groups: Tensor | None = None) -> Tensor:
        """The distance of each query to the nearest point.

        The nearest point is found in float32 by squared norms, and its distance is then computed
        from the difference: 0 for a query that equals a point, unless other points lie within
        about 0.0005 of the norm of the query.

        Args:
            queries: float32, `N × channels`, on the device of the points.
            groups: int64, `N`, if the points have groups.

        Returns:
            float32, `N`; NaN for queries that have NaN; infinite where all points are of the
            query's group.
        """
        parts = queries.split(self._rows)
        which = [None] * len(parts) if groups is None else groups.split(self._rows)
        found = [self._of_part(*each) for each in zip(parts, which, strict=True)]
        return torch.cat([queries.new_empty(0), *found])

    def _of_part(self, queries: Tensor, groups: Tensor | None) -> Tensor:
        squares = queries.square().sum(dim=1)
        centres = self._centres
        apart = torch.addmm(centres.square().sum(dim=1), queries, centres.T, alpha=-2)
        apart = apart.add_(squares[:, None]).clamp_min_(0).sqrt_()
        allowed = apart
        if groups is not None:
            allowed = apart.masked_fill(self._only == groups[:, None], torch.inf)
        first = allowed.argmin(dim=1)
        best = _Best(queries, groups)
        self._search(best, *first.sort())
        reached = (best.value + squares).clamp_min(0).sqrt()
        reaches = apart - self._radii < reached[:, None]
        reaches.scatter_(1, first[:, None], False)
        self._search(best, *reaches.T.contiguous().nonzero(as_tuple=True))
        distance = (queries - self._points[best.index.clamp_min(0)]).norm(dim=1)
        return torch.where((best.index < 0) & distance.isfinite(), torch.inf, distance)

    def _search(self, best: _Best, balls: Tensor, rows: Tensor) -> None:
        """Search the balls, by ascending number, each for the query of its row."""
        counts = torch.bincount(balls, minlength=len(self._balls)).tolist()
        for ball, some in zip(self._balls, rows.split(counts), strict=True):
            if len(some):
                best.look_into(ball, some)


class _Best:
    """The nearest point of each query so far.

    Attributes:
        value: float32, `N`, squared distance minus the squared norm of the query.
        index: int64, `N`, index of the point; -1: none.
    """

    def __init__(self, queries: Tensor, groups: Tensor | None) -> None:
        self._queries, self._groups = queries, groups
        self.value = queries.new_full((len(queries),), torch.inf)
        self.index = torch.full_like(self.value, -1, dtype=torch.int64)

    def look_into(self, ball: _Ball, rows: Tensor) -> None:
        queries = self._queries.index_select(0, rows)
        values = torch.addmm(ball.squares, queries, ball.transposed, alpha=-2)
        if ball.groups is not None and self._groups is not None:
            values.masked_fill_(self._groups[rows, None] == ball.groups, torch.inf)
        value, which = values.min(dim=1)
        nearer = (value < self.value.index_select(0, rows)).nonzero()[:, 0]
        rows = rows.index_select(0, nearer)
        self.value[rows] = value.index_select(0, nearer)
        self.index[rows] = ball.index[which.index_select(0, nearer)]


def _clusters(points: Tensor, number: int) -> Tensor:
    """The cluster of each point, int64 from 0 without gaps, at most `number` of them.

    A few rounds of Lloyd's k-means; worse clusters cost time, not accuracy.
    """
    if number <= 1:
        return torch.zeros(len(points), dtype=torch.int64, device=points.device)
    some = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:number]
    centres = points[some]
    parts = points.split(_ROWS)
    for _ in range(_ROUNDS):
        squares = centres.square().sum(dim=1)
        nearest = [torch.addmm(squares, part, centres.T, alpha=-2).argmin(dim=1) for part in parts]
        member = torch.cat(nearest).unique(return_inverse=True)[1]
        sizes = torch.bincount(member)
        sums = torch.zeros(len(sizes), points.shape[1]).index_add_(0, member, points)
        centres = sums / sizes[:, None]
    return member
