// What is drawn into a plot beside its lines: a heat map, limits of the SLA, markers.

const LEVELS = 35;
const TEXT_MAX = 28;
const ROW = 14; // px that a line of words is high

function within(plot, draw) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(ctx, bbox);
  ctx.restore();
}

const parts = (colour) => [1, 3, 5].map((from) => parseInt(colour.slice(from, from + 2), 16)); // #rrggbb

function shades(low, high) {
  const [from, to] = [parts(low), parts(high)];
  return Array.from({ length: LEVELS + 1 }, (_, level) => {
    const mixed = from.map((part, place) => Math.round(part + ((to[place] - part) * level) / LEVELS));
    return `rgb(${mixed.join()})`;
  });
}

// Draws a cell for every letter of `heat.columns`: a digit of base 36, 0 for nothing.
export function drawHeat(plot, unix_s, width_s, heat, ink) {
  const colours = shades(ink("--heat-low"), ink("--heat-high"));
  within(plot, (ctx) => {
    const edges = heat.edges_ms.map((edge) => Math.round(plot.valToPos(edge, "y", true)));
    heat.columns.forEach((letters, place) => {
      const left = Math.round(plot.valToPos(unix_s[place], "x", true));
      const right = Math.round(plot.valToPos(unix_s[place] + width_s, "x", true));
      for (let row = 0; row < letters.length; row += 1) {
        const level = parseInt(letters[row], 36);
        if (level) {
          ctx.fillStyle = colours[level];
          ctx.fillRect(left, edges[row + 1], Math.max(1, right - left), edges[row] - edges[row + 1]);
        }
      }
    });
  });
}

// Draws the SLA's limits as lines across, and markers as lines upright; each with its words, none of which
// lie over others: where there is no room left a marker is a flag alone (the controls list them all).
export function drawMarks(plot, limits, markers, ink) {
  const ratio = window.devicePixelRatio || 1;
  within(plot, (ctx, box) => {
    ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    ctx.lineWidth = 1.5 * ratio;
    ctx.textBaseline = "bottom";
    const words = new Words(ctx, box, ratio, ink);
    for (const { limit, text } of limits) {
      const y = plot.valToPos(limit, "y", true);
      const above = y < box.top;
      ctx.strokeStyle = ctx.fillStyle = ink("--fail");
      ctx.setLineDash([8 * ratio, 4 * ratio]);
      if (!above) stroke(ctx, box.left, y, box.left + box.width, y);
      const near = above ? [] : [y - 2 * ratio, y + (ROW + 2) * ratio];
      for (const said of above ? [`${text} ↑`, "↑"] : [text]) {
        if (words.put(said, box.left + box.width, "right", near)) break;
      }
    }
    for (const { unix_s, text } of markers) {
      const x = plot.valToPos(unix_s, "x", true);
      if (x < box.left || x > box.left + box.width) continue; // not in what is looked at closely
      ctx.strokeStyle = ctx.fillStyle = ink("--ink");
      ctx.setLineDash([2 * ratio, 3 * ratio]);
      stroke(ctx, x, box.top, x, box.top + box.height);
      const short = text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX - 1)}…` : text;
      for (const said of [`⚑ ${short}`, "⚑"]) {
        if (words.put(said, x, "left", []) || words.put(said, x, "right", [])) break;
      }
    }
  });
}

// The words in one chart, and where they are.
class Words {
  constructor(ctx, box, ratio, ink) {
    Object.assign(this, { ctx, box, ratio, ink, taken: [] });
  }

  width(text) {
    return this.ctx.measureText(text).width + 8 * this.ratio;
  }

  // Writes beside x in the first free place: at one of the heights `near`, else in the first row from the top
  // that is free. Returns whether there is one.
  put(text, x, align, near) {
    const { ctx, box, ratio } = this;
    const width = this.width(text);
    const left = align === "right" ? x - width : x;
    if (left < box.left || left + width > box.left + box.width) return false;
    const rows = Array.from({ length: Math.floor(box.height / (ROW * ratio)) }, (_, row) => box.top + ROW * (row + 1) * ratio);
    const place = [...near, ...rows]
      .filter((bottom) => bottom - ROW * ratio >= box.top && bottom <= box.top + box.height)
      .map((bottom) => ({ left, right: left + width, top: bottom - ROW * ratio, bottom }))
      .find((one) => this.taken.every((other) => !overlap(one, other)));
    if (!place) return false;
    this.taken.push(place);
    ctx.textAlign = align;
    write(ctx, text, x + (align === "right" ? -4 : 4) * ratio, place.bottom, this.ink);
    return true;
  }
}

const overlap = (one, other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;

// Writes over lines, on a rim that keeps it readable.
function write(ctx, text, x, y, ink) {
  const [colour, dash] = [ctx.fillStyle, ctx.getLineDash()];
  ctx.setLineDash([]);
  ctx.lineJoin = "round";
  ctx.strokeStyle = ink("--panel");
  const width = ctx.lineWidth;
  ctx.lineWidth = 3 * width;
  ctx.strokeText(text, x, y);
  ctx.fillText(text, x, y);
  Object.assign(ctx, { lineWidth: width, strokeStyle: colour });
  ctx.setLineDash(dash);
}

function stroke(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}
