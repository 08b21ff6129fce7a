// Bar charts as boxes that fill their cards, each with its figures in a table for screen readers.

import { formatCount, formatSeconds } from "./format.js";

const { createElement: h } = globalThis.React;

const CHARTS = [
  {
    title: "Rows per day",
    nothing: "The entries below updated or rejected no rows.",
    format: formatCount,
    series: [
      { name: "Updated", value: "updated", color: "success" },
      { name: "Unknown keys", value: "unmatched", color: "warning" },
      { name: "Rejected", value: "rejected", color: "failed" },
    ],
  },
  {
    title: "Uploads and waits per day",
    nothing: "No entry below has ended.",
    format: formatCount,
    series: [
      { name: "Done", value: "done", color: "success" },
      { name: "Warning", value: "warning", color: "warning" },
      { name: "Failed", value: "failed", color: "failed" },
    ],
  },
  {
    title: "Time until jobs ended",
    nothing: "No entry below has a completed job.",
    format: formatSeconds,
    isBeside: true,
    series: [
      { name: "Median", value: "median", color: "running" },
      { name: "Longest", value: "longest", color: "deferred" },
    ],
  },
];

export function Charts({ days }) {
  const full = CHARTS.filter((chart) => days.some((day) => chart.series.some(({ value }) => day[value] > 0)));
  const empty = CHARTS.filter((chart) => !full.includes(chart));
  return h(
    globalThis.React.Fragment,
    null,
    full.length > 0 && h("div", { className: "st-charts" }, full.map((chart) => h(Chart, { key: chart.title, days, ...chart }))),
    empty.length > 0 && h("p", { className: "st-muted" }, empty.map(({ nothing }) => nothing).join(" ")),
  );
}

function Chart({ title, days, series, format, isBeside }) {
  const height = (day) => series.reduce((sum, { value }) => (isBeside ? Math.max(sum, day[value]) : sum + day[value]), 0);
  const most = Math.max(...days.map(height));
  const everyNth = Math.ceil(days.length / 7);
  return h(
    "figure",
    { className: "st-chart" },
    h("figcaption", null, title),
    h(
      "ul",
      { className: "st-legend", "aria-hidden": true },
      series.map(({ name, color }) => h("li", { key: name }, h("i", { "data-color": color }), name)),
      h("li", { className: "st-most" }, `highest ${format(most)}`),
    ),
    h(
      "div",
      { className: isBeside ? "st-bars st-beside" : "st-bars", "aria-hidden": true },
      days.map((day, index) =>
        h(
          "div",
          { key: day.day, className: "st-day", title: [day.day, ...series.map((each) => `${each.name}: ${format(day[each.value])}`)].join("\n") },
          h(
            "div",
            { className: "st-column" },
            series.map(({ name, value, color }) =>
              day[value] > 0 && h("span", { key: name, "data-color": color, style: { height: `${(day[value] / most) * 100}%` } }),
            ),
          ),
          h("small", null, (days.length - 1 - index) % everyNth === 0 ? day.day.slice(5) : " "),
        ),
      ),
    ),
    h(Figures, { title, days, series, format }),
  );
}

function Figures({ title, days, series, format }) {
  return h(
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
          { key: day.day },
          h("th", { scope: "row" }, day.day),
          series.map(({ name, value }) => h("td", { key: name }, day[value] > 0 ? format(day[value]) : "none")),
        ),
      ),
    ),
  );
}
