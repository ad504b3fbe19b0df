"""Small changes to a candidate, drawn at random: the neighbourhood that the search walks in."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from deploy.backends.tflm.strips.clones import THINNED, Clone
from deploy.backends.tflm.strips.cuts import FLAGS, Cuts, normalised
from deploy.backends.tflm.strips.estimate import Candidate, Estimate, Estimator
from deploy.backends.tflm.strips.network import Network
from deploy.backends.tflm.strips.tuning import DRAWS


class Mover:
    """Draws neighbours of candidates; the same generator state gives the same neighbour."""

    def __init__(
        self, estimator: Estimator, clones: Sequence[Clone], generator: random.Random
    ) -> None:
        self.estimator = estimator
        self.clones = tuple(clones)
        self.random = generator
        moves = {
            "shift_end": self._shift_end,
            "drop_end": self._drop_end,
            "add_end": self._add_end,
            "stretch_ends": self._stretch_ends,
            "change_halo": self._change_halo,
            "swap_inputs": self._swap_inputs,
            "change_course": self._change_course,
            "uncut": self._uncut,
            "cut_neighbour": self._cut_neighbour,
            "change_driver": self._change_driver,
            "cut_anything": self._cut_anything,
            "toggle_clone": self._toggle_clone,
            "part": self._part,
        }
        self._moves = list(moves.values())
        self._weights = [DRAWS.weights[name] for name in moves]

    def neighbour(self, estimate: Estimate) -> Candidate:
        """One change, at times several."""
        candidate = estimate.candidate
        draw = self.random.random()
        if draw < DRAWS.region:
            candidate = self._region(candidate, estimate.peak_operators)
        elif draw < DRAWS.region + DRAWS.relief:
            candidate = self._relieve(estimate)
        else:
            candidate = self._step(candidate)
        while self._chance(DRAWS.one_more):
            candidate = self._step(candidate)
        return candidate

    def _step(self, candidate: Candidate) -> Candidate:
        return self.random.choices(self._moves, self._weights)[0](candidate)

    def _chance(self, part: float) -> bool:
        return self.random.random() < part

    def _network(self, candidate: Candidate) -> Network:
        return self.estimator.network(candidate.clones)

    def _changed(self, candidate: Candidate, cuts: Cuts) -> Candidate:
        return Candidate(candidate.clones, normalised(self._network(candidate), cuts))

    def _with_ends(self, candidate: Candidate, operator: int, ends: Sequence[int]) -> Candidate:
        rows = self._rows(candidate, operator)
        inner = sorted({end for end in ends if 0 < end < rows})
        changed = {k: v for k, v in candidate.cuts.ends.items() if k != operator}
        if inner:
            changed[operator] = (*inner, rows)
        return self._changed(candidate, candidate.cuts.replace(ends=changed))

    def _rows(self, candidate: Candidate, operator: int) -> int:
        return self._network(candidate).row_operators[operator].rule.out_rows

    def _driver(self, candidate: Candidate) -> int | None:
        drivers = [operator for operator, ends in candidate.cuts.ends.items() if ends]
        return self.random.choice(drivers) if drivers else None

    def _shift_end(self, candidate: Candidate) -> Candidate:
        operator = self._driver(candidate)
        if operator is None:
            return self._cut_anything(candidate)
        ends = list(candidate.cuts.ends[operator][:-1])
        reach = _reach(self._rows(candidate, operator))
        for _ in range(1 if self._chance(DRAWS.one_end) else 2):
            place = self.random.randrange(len(ends))
            rows = self.random.choice(DRAWS.shifts)
            ends[place] += rows * (reach if self._chance(DRAWS.far) else 1)
        return self._with_ends(candidate, operator, ends)

    def _relieve(self, estimate: Estimate) -> Candidate:
        """Takes rows from the strip during which the most bytes are live."""
        candidate = estimate.candidate
        ends = candidate.cuts.ends
        drivers = [
            o for o, strip in estimate.peak_strips.items() if ends.get(o) and strip < len(ends[o])
        ]
        if not drivers:
            return self._step(candidate)
        operator = self.random.choice(drivers)
        strip, rows = estimate.peak_strips[operator], list(ends[operator])
        by = self.random.choice(DRAWS.taken_rows) * self.random.choice((1, _reach(rows[-1])))
        if strip > 0 and (strip == len(rows) - 1 or self._chance(DRAWS.at_begin)):
            rows[strip - 1] += by
        elif strip < len(rows) - 1:
            rows[strip] -= by
        return self._with_ends(candidate, operator, rows[:-1])

    def _drop_end(self, candidate: Candidate) -> Candidate:
        operator = self._driver(candidate)
        if operator is None:
            return candidate
        ends = list(candidate.cuts.ends[operator][:-1])
        ends.pop(self.random.randrange(len(ends)))
        return self._with_ends(candidate, operator, ends)

    def _add_end(self, candidate: Candidate) -> Candidate:
        operator = self._driver(candidate)
        if operator is None:
            return candidate
        row = self.random.randrange(1, self._rows(candidate, operator))
        return self._with_ends(candidate, operator, (*candidate.cuts.ends[operator], row))

    def _stretch_ends(self, candidate: Candidate) -> Candidate:
        """Makes strips grow or shrink from the first to the last."""
        operator = self._driver(candidate)
        if operator is None:
            return candidate
        rows = self._rows(candidate, operator)
        power = self.random.choice(DRAWS.stretches)
        ends = [round(rows * (end / rows) ** power) for end in candidate.cuts.ends[operator][:-1]]
        return self._with_ends(candidate, operator, ends)

    def _change_halo(self, candidate: Candidate) -> Candidate:
        cuts = candidate.cuts
        if not cuts.ends:
            return candidate
        operator = frozenset({self.random.choice(list(cuts.ends))})
        kind = self.random.choice(DRAWS.halo_flags)
        changes = {kind: getattr(cuts, kind) ^ operator}
        if kind == "recomputed" and self._chance(DRAWS.copied_too):
            changes["copied"] = cuts.copied ^ operator
        return self._changed(candidate, cuts.replace(**changes))

    def _swap_inputs(self, candidate: Candidate) -> Candidate:
        """Which input of a join comes first, and whether the output takes the place of one."""
        network = self._network(candidate)
        joins = [operator for operator in candidate.cuts.ends if operator in network.joins]
        if not joins:
            return candidate
        kind = self.random.choice(DRAWS.join_flags)
        changes = {kind: getattr(candidate.cuts, kind) ^ {self.random.choice(joins)}}
        return self._changed(candidate, candidate.cuts.replace(**changes))

    def _part(self, candidate: Candidate) -> Candidate:
        """Lets an output grow into its input, or no longer, so that both can stand elsewhere."""
        operator = frozenset({self.random.choice(self._network(candidate).order)})
        return self._changed(
            candidate, candidate.cuts.replace(own_place=candidate.cuts.own_place ^ operator)
        )

    def _change_course(self, candidate: Candidate) -> Candidate:
        """Turns the direction of strips around, or lets them run before they are read."""
        operator = self._driver(candidate)
        if operator is None:
            return candidate
        kind = self.random.choice(DRAWS.course_flags)
        if kind == "when_ready":
            operator = self.random.choice(list(candidate.cuts.ends))
        changes = {kind: getattr(candidate.cuts, kind) ^ {operator}}
        return self._changed(candidate, candidate.cuts.replace(**changes))

    def _uncut(self, candidate: Candidate) -> Candidate:
        ends = dict(candidate.cuts.ends)
        if ends:
            del ends[self.random.choice(list(ends))]
        return self._changed(candidate, candidate.cuts.replace(ends=ends))

    def _cut_neighbour(self, candidate: Candidate) -> Candidate:
        """Cuts an operator beside one that is cut; it may take over the driving of the strips."""
        network, cuts = self._network(candidate), candidate.cuts
        order = network.order
        beside = [
            place
            for place, operator in enumerate(order)
            if operator in network.row_operators
            and operator not in cuts.ends
            and any(
                0 <= other < len(order) and order[other] in cuts.ends
                for other in (place - 1, place + 1)
            )
        ]
        if not beside:
            return candidate
        place = self.random.choice(beside)
        operator, before = order[place], order[place - 1] if place else -1
        ends = dict(cuts.ends) | {operator: ()}
        if ends.get(before) and self._chance(DRAWS.takes_over):
            rows, rows_before = self._rows(candidate, operator), self._rows(candidate, before)
            ends[operator] = tuple(
                max(1, round(end * rows / rows_before)) for end in cuts.ends[before]
            )
            ends[before] = ()
        draw = self.random.random()
        again, kept = DRAWS.neighbour_halo
        recomputed = cuts.recomputed | ({operator} if draw < again else set())
        copied = cuts.copied | ({operator} if again <= draw < again + kept else set())
        return self._changed(
            candidate, cuts.replace(ends=ends, recomputed=recomputed, copied=copied)
        )

    def _change_driver(self, candidate: Candidate) -> Candidate:
        """Gives a follower strips of its own, or takes them away."""
        cuts = candidate.cuts
        if not cuts.ends:
            return candidate
        operator = self.random.choice(list(cuts.ends))
        rows = self._rows(candidate, operator)
        strips: tuple[int, ...] = ()
        if not cuts.ends[operator]:
            count = min(self.random.randint(1, DRAWS.most_new_ends), rows - 1)
            strips = (*sorted(self.random.sample(range(1, rows), count)), rows)
        return self._changed(candidate, cuts.replace(ends={**cuts.ends, operator: strips}))

    def _cut_anything(self, candidate: Candidate) -> Candidate:
        operators = list(self._network(candidate).row_operators)
        if not operators:
            return candidate
        operator = self.random.choice(operators)
        if operator in candidate.cuts.ends:
            return candidate
        rows = self._rows(candidate, operator)
        return self._with_ends(candidate, operator, (self.random.randrange(1, rows),))

    def _toggle_clone(self, candidate: Candidate) -> Candidate:
        if not self.clones:
            return candidate
        clone = self.random.choice(self.clones)
        return toggled(self.estimator, candidate, clone)

    def _region(self, candidate: Candidate, peak_operators: Sequence[int]) -> Candidate:
        """Lays a region of random extent, strips and halos over a peak operator."""
        network, cuts = self._network(candidate), candidate.cuts
        place = {operator: i for i, operator in enumerate(network.order)}
        first = last = place[self.random.choice(list(peak_operators))]
        while first > 0 and self._chance(DRAWS.wider):
            first -= 1
        while last < len(network.order) - 1 and self._chance(DRAWS.wider):
            last += 1
        inside = [o for o in network.order[first : last + 1] if o in network.row_operators]
        if not inside:
            return candidate
        driver = inside[-1]
        strips = uneven_ends(
            self._rows(candidate, driver),
            self.random.choice(DRAWS.region_strips),
            self.random.choice(DRAWS.region_powers),
        )
        keep_inner = self._chance(DRAWS.keeps_inner)
        ends = dict(cuts.ends)
        for operator in inside:
            if not (keep_inner and ends.get(operator)):
                ends[operator] = ()
        ends[driver] = strips
        wide, others = self.random.choice(DRAWS.region_halos)
        sets = {
            name: set(getattr(cuts, name)) - set(inside)
            for name in ("recomputed", "copied", "untrimmed", "padded", "when_ready")
        }
        for operator in inside[:-1]:
            rule = network.row_operators[operator].rule
            again, kept = wide if getattr(rule, "kernel_extent", 1) > 1 else others
            draw = self.random.random()
            if draw < again:
                sets["recomputed"].add(operator)
            elif draw < again + kept:
                sets["copied"].add(operator)
        for name in ("untrimmed", "padded"):
            if self._chance(DRAWS.region_flag):
                sets[name].update(inside)
        if self._chance(DRAWS.runs_along):
            # What is read after the region runs along with it.
            sets["when_ready"].update(_leaving(network, inside) - {driver})
        return self._changed(
            candidate,
            cuts.replace(ends=ends, **{name: frozenset(s) for name, s in sets.items()}),
        )


def _reach(rows: int) -> int:
    """Rows of a long step: they grow with the map, as a row of a large map changes little."""
    return max(1, rows // DRAWS.long_steps)


def other_ends(ends: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yields strips of which one end is elsewhere or gone, or all behind one of them."""
    rows = ends[-1] if ends else 0
    reach = _reach(rows)
    for place in range(len(ends) - 1):
        for by in dict.fromkeys((-1, 1, -reach, reach, -2, 2)):
            moved = tuple(sorted({*ends[:place], ends[place] + by, *ends[place + 1 :]}))
            if moved[0] > 0 and moved[-1] == rows:
                yield moved
        yield ends[:place] + ends[place + 1 :]
    # Of all strips behind one of them: their heights stay what they were.
    for place in range(len(ends) - 2):
        for by in (-1, 1):
            moved = ends[:place] + tuple(end + by for end in ends[place:-1]) + (rows,)
            if moved[0] > 0 and moved[-2] < rows:
                yield moved


def single_changes(estimator: Estimator, candidate: Candidate) -> Iterator[Candidate]:
    """Yields the candidates that differ in one end of a strip or one flag of an operator."""
    network, cuts = estimator.network(candidate.clones), candidate.cuts
    seen = {cuts.key()}

    def fresh(changed: Cuts) -> Iterator[Candidate]:
        changed = normalised(network, changed)
        key = changed.key()
        if key not in seen:
            seen.add(key)
            yield Candidate(candidate.clones, changed)

    for operator in cuts.ends:
        for ends in other_ends(cuts.ends[operator]):
            yield from fresh(cuts.replace(ends={**cuts.ends, operator: ends}))
    for operator in cuts.ends:
        fewer_ends = {o: e for o, e in cuts.ends.items() if o != operator}
        yield from fresh(cuts.replace(ends=fewer_ends))
    for name in FLAGS:
        flags = getattr(cuts, name)
        for operator in network.order if name == "own_place" else cuts.ends:
            yield from fresh(cuts.replace(**{name: flags ^ {operator}}))


def changed_ends(
    estimator: Estimator, candidate: Candidate, operator: int, ends: tuple[int, ...]
) -> Candidate:
    """The candidate with other strips of one operator."""
    cuts = candidate.cuts.replace(ends={**candidate.cuts.ends, operator: ends})
    return Candidate(candidate.clones, normalised(estimator.network(candidate.clones), cuts))


def other_strips(
    estimator: Estimator, candidate: Candidate, operator: int, strips: int
) -> Iterator[Candidate]:
    """Yields an operator in so many strips, of equal heights or nearly, in several courses.

    Which way strips run, and what of them is copied, is best for one number of them only; so
    the usual ways are tried as well.
    """
    network, cuts = estimator.network(candidate.clones), candidate.cuts
    cut, none = frozenset(cuts.ends), frozenset[int]()
    plain = cuts.replace(
        copied=cuts.copied - cut,
        swapped=cuts.swapped - cut,
        finished=cuts.finished - cut,
        upwards=none,
        padded=none,
        own_place=cuts.own_place - cut,
    )
    courses = (
        cuts,
        plain,
        plain.replace(copied=cut),
        plain.replace(padded=cut),
        plain.replace(upwards=cut),
        plain.replace(upwards=cut, own_place=cut),
    )
    seen = set()
    for power in DRAWS.other_powers:
        ends = {**cuts.ends, operator: uneven_ends(cuts.ends[operator][-1], strips, power)}
        for course in courses:
            changed = Candidate(candidate.clones, normalised(network, course.replace(ends=ends)))
            if changed.key() not in seen:
                seen.add(changed.key())
                yield changed


def other_kinds(
    estimator: Estimator, clones: Sequence[Clone], here: Estimate
) -> Iterator[Candidate]:
    """Yields candidates with a clone or an operator more or less, or one more region.

    An operator beside those that are cut runs along with them; behind the last of them it may
    have the strips instead, as may the last but one. A region is laid over an operator at which
    the most bytes are live.
    """
    candidate = here.candidate
    for clone in clones:
        yield toggled(estimator, candidate, clone)
    network, cuts = estimator.network(candidate.clones), candidate.cuts
    order = network.order
    for place, operator in enumerate(order):
        around = [order[p] for p in (place - 1, place + 1) if 0 <= p < len(order)]
        if (
            operator in cuts.ends
            or operator not in network.row_operators
            or cuts.ends.keys().isdisjoint(around)
        ):
            continue
        before = order[place - 1] if place else -1
        given = cuts.ends.get(before)
        added = [cuts.replace(ends={**cuts.ends, operator: ()})]
        if given:
            rows = network.row_operators[operator].rule.out_rows
            own = tuple(max(1, round(end * rows / given[-1])) for end in given)
            added.append(cuts.replace(ends={**cuts.ends, before: (), operator: own}))
        for ways in added:
            for name in ("recomputed", "copied"):
                runs_along = before if ways.ends.get(operator) else operator
                flags = getattr(ways, name) | {runs_along}
                changed = normalised(network, ways.replace(**{name: flags}))
                yield Candidate(candidate.clones, changed)
    places = {operator: place for place, operator in enumerate(order)}
    for operator, strips in cuts.ends.items():
        before = order[places[operator] - 1] if strips and places[operator] else -1
        if before in cuts.ends and not cuts.ends[before]:
            # The region ends one operator earlier.
            rows = network.row_operators[before].rule.out_rows
            fewer = {o: e for o, e in cuts.ends.items() if o != operator}
            fewer[before] = tuple(max(1, round(end * rows / strips[-1])) for end in strips)
            shorter = cuts.replace(ends=fewer, recomputed=cuts.recomputed - {before})
            yield Candidate(candidate.clones, normalised(network, shorter))
    for peak in (places[o] for o in here.peak_operators if o in places and o not in cuts.ends):
        for first in range(max(peak - 2, 0), peak + 1):
            for last in range(peak, min(peak + 3, len(order))):
                inside = order[first : last + 1]
                if not all(o in network.row_operators and o not in cuts.ends for o in inside):
                    continue
                rows = network.row_operators[inside[-1]].rule.out_rows
                ends = {**cuts.ends, **dict.fromkeys(inside, ())}
                for count in DRAWS.new_region_strips:
                    ends[inside[-1]] = uneven_ends(rows, count, 1.0)
                    for name in ("recomputed", "copied"):
                        flags = getattr(cuts, name) | frozenset(inside[:-1])
                        way = cuts.replace(ends=dict(ends), **{name: flags})
                        yield Candidate(candidate.clones, normalised(network, way))


def _leaving(network: Network, inside: Sequence[int]) -> set[int]:
    """Those of the operators that others read as well."""
    readers = network.readers
    return {
        operator
        for operator in inside
        for tensor in network.graph.operators[operator].outputs
        if any(reader not in inside for reader in readers.get(tensor, ()))
    }


def toggled(estimator: Estimator, candidate: Candidate, clone: Clone) -> Candidate:
    """The candidate with or without a clone; cuts of the other clones keep their operators."""
    count = len(estimator.graph.operators)
    old, new = sorted(candidate.clones), sorted(candidate.clones ^ {clone})
    moved = {count + i: count + new.index(c) for i, c in enumerate(old) if c in new}
    moved |= {operator: operator for operator in range(count)}

    def rename(operators: frozenset[int]) -> frozenset[int]:
        return frozenset(moved[o] for o in operators if o in moved)

    cuts = candidate.cuts
    ends = {moved[o]: strips for o, strips in cuts.ends.items() if o in moved}
    flags = {name: rename(getattr(cuts, name)) for name in FLAGS}
    if clone in new:
        added = count + new.index(clone)
        _, reader = clone
        if reader == THINNED:
            # Its strips follow those of the map.
            ends[added] = ()
            flags["when_ready"] |= {added}
        elif reader in ends:
            ends[added] = ()
            flags["recomputed"] |= {added}
    renamed = Cuts(ends).replace(**flags)
    clones = frozenset(new)
    return Candidate(clones, normalised(estimator.network(clones), renamed))


def uneven_ends(rows: int, strips: int, power: float) -> tuple[int, ...]:
    """Ends of strips whose heights grow (power > 1), shrink (power < 1) or stay equal."""
    ends = {
        min(rows, max(1, round(rows * (strip / strips) ** power))) for strip in range(1, strips)
    }
    return (*sorted(ends - {rows}), rows)
