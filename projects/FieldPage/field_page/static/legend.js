// The table of classes and of what they cover.

const percent = (share) => (share === 0 ? "–" : share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

function cell(row, text) {
  const td = row.insertCell();
  td.textContent = text;
  return td;
}

export function swatch([red, green, blue]) {
  const mark = document.createElement("span");
  mark.className = "swatch";
  mark.style.background = `rgb(${red}, ${green}, ${blue})`;
  return mark;
}

// The classes that are there, the largest first. `part` is null until the window is decoded.
export function fillLegend(body, classes, whole, part, focus) {
  const there = classes.map((_, label) => label).filter((label) => whole[label] || part?.[label]);
  there.sort((a, b) => whole[b] - whole[a] || (part?.[b] ?? 0) - (part?.[a] ?? 0));
  // The rows under the pointer stay as they are while nothing has changed.
  const content = JSON.stringify(there.map((label) => [label, whole[label], part?.[label]]));
  if (body.dataset.content !== content) {
    body.dataset.content = content;
    body.replaceChildren();
    for (const label of there) {
      const row = body.insertRow();
      row.dataset.label = label;
      row.insertCell().append(swatch(classes[label].color));
      cell(row, classes[label].name);
      cell(row, percent(whole[label]));
      cell(row, part ? percent(part[label]) : "");
    }
  }
  markLegend(body, focus);
}

// Marks the row of a class, or none.
export function markLegend(table, label) {
  for (const row of table.querySelectorAll("tbody tr, :scope > tr")) {
    row.classList.toggle("now", label !== null && Number(row.dataset.label) === label);
  }
}
