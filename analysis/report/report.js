"use strict";

const WARNINGS = 2; // vega.Warn
const CHART_OPTIONS = {
  renderer: "svg",
  logLevel: WARNINGS,
  actions: { export: true, source: false, compiled: false, editor: false },
};
const ROWS_PER_PAGE = 25;

const readJson = (id) => JSON.parse(document.getElementById(id).textContent);

async function drawFigures() {
  const figures = readJson("figures");
  for (const place of document.querySelectorAll("[data-figure]")) {
    const name = place.dataset.figure;
    try {
      await vegaEmbed(place, figures[name], { ...CHART_OPTIONS, downloadFileName: name });
      place.classList.add("drawn");
    } catch (error) {
      place.classList.add("failed");
      place.textContent = `This chart could not be drawn: ${error.message}`;
    }
  }
}

// The table of trials: columns come as arrays, rows are indices into them.

const format = (value) => {
  if (value === null) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(5)));
};

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
}

function cell(kind, text, isText) {
  const element = document.createElement(kind);
  element.textContent = text;
  if (isText) element.className = "text";
  return element;
}

class TrialTable {
  constructor(data) {
    this.columns = data.columns; // [{name, values}]
    this.byName = Object.fromEntries(data.columns.map((column) => [column.name, column.values]));
    this.units = data.units; // {names, rows: {trial_id: [[...], ...]}}
    this.unitChart = data.unit_chart;
    this.rows = this.columns[0].values.map((_, row) => row);
    this.page = 0;
    this.table = document.getElementById("trials-table");
    this.texts = this.rows.map((row) =>
      this.columns.map(({ name, values }) => `${name}=${format(values[row])}`).join(" ").toLowerCase());
    this.drawHead();
    this.connect();
    this.draw();
    this.openFromAddress();
  }

  isText({ values }) {
    return values.some((value) => typeof value === "string");
  }

  drawHead() {
    const head = document.createElement("tr");
    for (const column of this.columns) {
      const heading = cell("th", column.name, this.isText(column));
      heading.tabIndex = 0;
      heading.addEventListener("click", () => this.sort(column, heading));
      heading.addEventListener("keydown", (event) => event.key === "Enter" && this.sort(column, heading));
      head.append(heading);
    }
    this.table.tHead.replaceChildren(head);
  }

  connect() {
    const status = document.getElementById("status");
    for (const value of [...new Set(this.byName.status)].sort()) status.add(new Option(value, value));
    this.filter = document.getElementById("filter");
    this.status = status;
    for (const control of [this.filter, status]) {
      control.addEventListener("input", () => { this.page = 0; this.draw(); });
    }
    document.getElementById("previous").addEventListener("click", () => { this.page -= 1; this.draw(); });
    document.getElementById("next").addEventListener("click", () => { this.page += 1; this.draw(); });
    window.addEventListener("hashchange", () => this.openFromAddress());
  }

  sort(column, heading) {
    const descending = heading.ariaSort === "ascending";
    for (const other of this.table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.ariaSort = descending ? "descending" : "ascending";
    const { values } = column;
    this.rows.sort((a, b) => {
      const order = compare(values[a], values[b]);
      return (descending && values[a] !== null && values[b] !== null ? -order : order) || a - b;
    });
    this.page = 0;
    this.draw();
  }

  // "beta=2" must not find beta=20: a word with "=" has to be the whole cell.
  matching() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = (text, word) => word.includes("=") ? ` ${text} `.includes(` ${word} `) : text.includes(word);
    return this.rows.filter((row) =>
      (!this.status.value || this.byName.status[row] === this.status.value)
      && words.every((word) => found(this.texts[row], word)));
  }

  draw() {
    const rows = this.matching();
    const pages = Math.max(1, Math.ceil(rows.length / ROWS_PER_PAGE));
    const first = this.page * ROWS_PER_PAGE;
    this.table.tBodies[0].replaceChildren(...rows.slice(first, first + ROWS_PER_PAGE).map((row) => this.line(row)));
    document.getElementById("shown").textContent =
      `${rows.length} of ${this.rows.length} trials, page ${this.page + 1} of ${pages}`;
    document.getElementById("previous").disabled = this.page === 0;
    document.getElementById("next").disabled = this.page >= pages - 1;
  }

  line(row) {
    const line = document.createElement("tr");
    const trialId = this.byName.trial_id[row];
    line.dataset.trial = trialId;
    for (const column of this.columns) {
      const content = cell("td", format(column.values[row]), this.isText(column));
      if (column.name === "trial_id") {
        const link = document.createElement("a");
        link.href = `#trial-${trialId}`;
        link.textContent = `${trialId.slice(0, 8)}…`;
        link.title = trialId;
        content.replaceChildren(link);
      }
      line.append(content);
    }
    line.addEventListener("click", () => { window.location.hash = `trial-${trialId}`; });
    return line;
  }

  openFromAddress() {
    const [, trialId] = window.location.hash.match(/^#trial-([0-9a-z]+)$/) ?? [];
    const row = this.byName.trial_id.indexOf(trialId);
    if (row >= 0) this.open(row);
  }

  async open(row) {
    const trialId = this.byName.trial_id[row];
    for (const line of this.table.tBodies[0].rows) line.classList.toggle("chosen", line.dataset.trial === trialId);
    const panel = document.getElementById("trial");
    panel.hidden = false;
    const what = ["architecture", "dataset", "beta", "latent_dim", "seed"];
    document.getElementById("trial-title").textContent =
      `Trial ${trialId}: ${what.map((name) => `${name} ${format(this.byName[name][row])}`).join(", ")}`;
    const rows = this.units.rows[trialId] ?? [];
    const message = this.byName.error?.[row] ?? (rows.length ? "" : "The units of this trial are not in this page.");
    document.getElementById("trial-error").textContent = message;
    this.drawUnits(rows);
    const values = rows.map((unit) => Object.fromEntries(this.units.names.map((name, i) => [name, unit[i]])));
    const place = document.getElementById("trial-chart");
    place.replaceChildren();
    if (rows.length) {
      await vegaEmbed(place, { ...this.unitChart, datasets: { units: values } }, CHART_OPTIONS);
    }
    panel.scrollIntoView({ block: "nearest" });
  }

  drawUnits(rows) {
    const table = document.getElementById("units-table");
    const line = (kind, values) => {
      const element = document.createElement("tr");
      element.append(...values.map((value) => cell(kind, format(value))));
      return element;
    };
    table.tHead.replaceChildren(...(rows.length ? [line("th", this.units.names)] : []));
    table.tBodies[0].replaceChildren(...rows.map((row) => line("td", row)));
  }
}

const trials = readJson("trials-data");
if (trials) new TrialTable(trials);
drawFigures().then(() => document.body.classList.add("ready"));
