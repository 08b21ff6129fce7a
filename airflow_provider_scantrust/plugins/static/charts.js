// Two bar charts as SVG, each with its figures in a table for screen readers.

import { formatCount, formatSeconds } from "./model.js";

const { createElement: h } = globalThis.React;

const WIDTH = 520;
const HEIGHT = 120;
const FOOT = 18;
const HEAD = 14;

const shortDay = (day) => day.toLocaleDateString(undefined, { day: "numeric", month: "numeric" });

export function Charts({ days }) {
  return h(
    "div",
    { className: "st-charts" },
    h(Chart, {
      title: "Codes updated a day",
      days,
      series: [{ name: "Codes", className: "st-bar", valueOf: (day) => day.codes, format: formatCount }],
    }),
    h(Chart, {
      title: "Time until asynchronous jobs ended: the longest of a day, and the median",
      days,
      series: [
        { name: "Longest", className: "st-bar-pale", valueOf: (day) => day.longest, format: formatSeconds },
        { name: "Median", className: "st-bar", valueOf: (day) => day.median, format: formatSeconds },
      ],
    }),
  );
}

function Chart({ title, days, series }) {
  const most = Math.max(0, ...days.flatMap((day) => series.map(({ valueOf }) => valueOf(day) ?? 0)));
  const step = WIDTH / days.length;
  const room = HEIGHT - FOOT - HEAD;
  const labelled = Math.ceil(days.length / 10);
  const { format } = series[0];
  const bars = series.flatMap(({ name, className, valueOf, format }) =>
    days.map((day, index) => {
      const value = valueOf(day) ?? 0;
      const height = most > 0 ? (value / most) * room : 0;
      return h(
        "rect",
        {
          key: `${name} ${index}`,
          className,
          x: index * step + step * 0.15,
          width: step * 0.7,
          y: HEIGHT - FOOT - height,
          height,
        },
        h("title", null, `${shortDay(day.day)}: ${name} ${format(value)}`),
      );
    }),
  );
  const labels = days.map((day, index) =>
    (days.length - 1 - index) % labelled
      ? null
      : h("text", { key: index, x: (index + 0.5) * step, y: HEIGHT - 4, textAnchor: "middle" }, shortDay(day.day)),
  );
  return h(
    "figure",
    { className: "st-chart" },
    h("figcaption", null, title, most === 0 && h("span", { className: "st-muted" }, " (none in this time)")),
    h(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": true },
      h("line", { x1: 0, x2: WIDTH, y1: HEIGHT - FOOT, y2: HEIGHT - FOOT }),
      bars,
      labels,
      most > 0 && h("text", { x: 0, y: 10 }, format(most)),
    ),
    h(
      "table",
      { className: "st-unseen" },
      h("caption", null, title),
      h(
        "thead",
        null,
        h("tr", null, h("th", { scope: "col" }, "Day"), ...series.map(({ name }) => h("th", { key: name, scope: "col" }, name))),
      ),
      h(
        "tbody",
        null,
        days.map((day) =>
          h(
            "tr",
            { key: day.day.toISOString() },
            h("th", { scope: "row" }, day.day.toLocaleDateString()),
            series.map(({ name, valueOf, format }) => h("td", { key: name }, format(valueOf(day)) || "none")),
          ),
        ),
      ),
    ),
  );
}
