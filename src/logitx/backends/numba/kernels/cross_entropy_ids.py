"""Cross-entropy of class ids: softmax's passes, and one entry of each row that is different."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import FAILED, UNFIT, entries, given, rows
from logitx.backends.numba.memory.prefetch import ahead_of, ahead_of_both
from logitx.backends.numba.memory.scratch import after, missing, release, reserve
from logitx.backends.numba.passes.blocks import blocks_of, geometry_of, panels, place, rows_in
from logitx.backends.numba.passes.class_ids import (
    LABEL_SHARE,
    Labels,
    _gather,
    _total_share,
    known_of,
    scatter,
    write_label,
)
from logitx.backends.numba.passes.copies import finish_panel, load_block, store_block
from logitx.backends.numba.passes.loss import _hand_in, slopes_of, zero_dead
from logitx.backends.numba.passes.reduce import (
    hide,
    multiply,
    nans_beside_infinity,
    peak,
    rest_of,
)
from logitx.backends.numba.passes.reports import MEAN, blank_reports, report_bad, settle_all
from logitx.backends.numba.passes.scaling import cap, limit_at, scale_at
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.lanes import any_of, is_nan, width


def hard(
    x: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, grad: Any, loss: Any, z_part: Any,
    log_normalizer: Any, axis: int, across: Any, backward: Any, options: Any, ignoring: bool, ignored: int,
    z_loss: float, softcap: Any, temperature: Any, undefined: float, reduction: int, parts: int, crew: int,
) -> Any:  # fmt: skip
    """Write losses, or their sum or mean, and what else is not None; return a bad row or what `_memory` lists.

    Without `options` there is no mask, weight, softcap or temperature, without `backward` no gradient.
    For a mean the gradient is divided by the sum of shares, which then has to be known first.
    """
    logits, fits_x = entries(x, axis)
    mask, fits_where = entries(where, axis)
    gradient, fits_grad = entries(grad, axis)
    if not (fits_x and fits_where and fits_grad):
        return UNFIT
    targets = Labels(rows(labels), ignoring, ignored, rows(class_weight), rows(sample_weight))
    losses, z_parts, caps = rows(loss), rows(z_part), rows(softcap)
    g = geometry_of(logits, caps, across)
    heat = rows(temperature)
    factor = 1.0
    if backward is not None and reduction == MEAN:
        total, bad = _total_share(g, targets, mask, options, caps)
        if bad >= 0:
            return bad
        factor = 1.0 / total if total != 0.0 else 0.0
    reports = blank_reports(g.blocks, heat)
    if missing(reports):
        return FAILED
    work = job(_blocks, (
        logits, targets, mask, gradient, losses, z_parts, rows(log_normalizer), across, backward, options, z_loss, caps,
        heat, undefined, factor, reduction, reports,
    ))  # fmt: skip
    code = FAILED
    if together(crew, work, parts):
        code = settle_all(reports, g.blocks, losses, z_parts, reduction, undefined)
    release(reports)
    return code


@primitive
def _blocks(
    x: Any, labels: Any, where: Any, grad: Any, loss: Any, z_part: Any, log_normalizer: Any, across: Any, backward: Any,
    options: Any, z_loss: float, softcap: Any, temperature: Any, undefined: float, factor: float, reduction: int,
    reports: Any, part: int, parts: int,
) -> bool:  # fmt: skip
    g = geometry_of(x, softcap, across)
    masked, capped = options is not None and given(where), options is not None and given(softcap)
    lanes, sloping = width(softcap), backward is not None and capped
    room = reserve(5 * lanes + (1 + masked + sloping) * g.size, softcap)
    if missing(room):
        return False
    facts, tile = after(room, 2 * lanes), after(room, 5 * lanes)
    mask = after(tile, g.size)
    slope = after(mask, masked * g.size)
    start, stop = blocks_of(g, part, parts)
    for block in range(start, stop):
        first, total = place(g, block, across)
        tops = load_block(x, g, first, total, tile, -np.inf, across)
        if options is not None and masked:
            load_block(where, g, first, total, mask, 0.0, across)
            hide(tile, mask, g.size, -np.inf)
        final = False  # whether the gradient of the row has been written already
        for panel in range(panels(g, total, tile, across)):
            base, row = panel * g.panel, first + panel * lanes
            count = rows_in(total, panel, tile, across)
            if options is not None and capped:
                cap(tile, slope, sloping, base, g.steps, limit_at(softcap, row, count, room, across))
            scale = scale_at(temperature, row, count, room, options, across)
            bad = _gather(tile, base, g, facts, labels, where, row, count, options, across)
            report_bad(reports, block, bad)
            top = peak(tile, base, g.steps, tops, not masked and not capped, across)
            reduced = _forward(
                tile, base, g, facts, top, scale, z_loss, undefined, reduction, loss, z_part, log_normalizer,
                reports, block, row, count, _ahead(x, grad, g, first, panel, tile, backward, across), across,
            )  # fmt: skip
            if backward is not None:
                final = across is not None and not (masked or capped or any_of(is_nan(reduced.rest)))
                slopes = slopes_of(facts, scale, reduced, z_loss, factor, across)
                finish_panel(tile, base, grad, g, first, final, slopes, across)
                if final:
                    write_label(grad, g, facts, labels, row)
                else:
                    scatter(tile, base, g, facts, labels, row, count, across)
                    zero_dead(tile, base, g, known_of(facts, LABEL_SHARE, across), reduced.rest, x, row, count, across)
        if backward is not None and not final:
            if options is not None and capped:
                multiply(tile, slope, g.size)
            if options is not None and masked:
                hide(tile, mask, g.size, 0.0)
            store_block(tile, grad, g, first, total, across)
    release(room)
    return True


@primitive
def _ahead(x: Any, grad: Any, g: Any, first: int, panel: int, tile: Any, backward: Any, across: Any) -> Any:
    if backward is None:
        return ahead_of(x, g, first, panel, tile, across)
    return ahead_of_both(x, grad, g, first, panel, tile, across)


@primitive
def _forward(
    tile: Any, base: int, g: Any, facts: Any, top: Any, scale: Any, z_loss: float, undefined: float, reduction: int,
    loss: Any, z_part: Any, log_normalizer: Any, reports: Any, block: int, row: int, count: int, ahead: Any,
    across: Any,
) -> Any:  # fmt: skip
    """Reduce the rows of a panel to exponentials, which stay in the tile, and hand in their losses."""
    nans = nans_beside_infinity(tile, base, g.steps, top, across)
    rest, lost = rest_of(tile, base, g.steps, top, scale, None, ahead, across)
    return _hand_in(
        facts, top, rest, lost, nans, scale, z_loss, undefined, reduction, loss, z_part, log_normalizer, reports, block,
        row, count, across,
    )  # fmt: skip
