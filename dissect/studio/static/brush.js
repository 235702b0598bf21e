// Cells brushed by hand or by keys, with the brush that the fields tell.

import { $, saved } from "./dom.js";
import { brushCells, steppedCell } from "./edit.js";

/**
 * The brush. `grid()` is the layer's rows and columns while there is something to brush, or null;
 * `change(alter, event, options)` alters the edit; `moved()` is told of another place of the cursor.
 */
export function makeBrush({ grid, change, moved }) {
  let cursor = null; // the cell that keys are at

  /** Brush around a cell; the first of a stroke is the step that can be undone. */
  function brush(at, first, event) {
    if (!grid()) return false;
    const kind = $("brushes").querySelector("input:checked").value;
    const width = Math.max(1, Number($("width").value) || 1);
    change((edit) => brushCells(edit, at, grid(), kind, width), event, { joined: !first });
    return true;
  }

  function key(event) {
    if (!grid()) return false;
    const next = steppedCell(cursor, event.key, grid());
    if (next !== null) {
      event.stopPropagation();
      cursor = next;
      const columns = grid()[1];
      saved(`row ${Math.floor(cursor / columns) + 1}, column ${(cursor % columns) + 1}`);
      moved();
      return true;
    }
    return event.key === " " && cursor !== null && brush(cursor, true, event);
  }

  $("clear").addEventListener("click", (event) => change(({ cells }) => cells.clear(), event));

  return {
    brush,
    key,
    cursor: () => cursor,
    forget() { cursor = null; },
  };
}
