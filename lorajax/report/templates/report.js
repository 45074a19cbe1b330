'use strict';
// Model answers are untrusted: they reach the page through textContent only.

const byId = (id) => document.getElementById(id);

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// --- theme: automatic, light, dark ---------------------------------------------------------
{
  const button = byId('theme');
  const themes = ['automatic', 'light', 'dark'];
  let theme = 'automatic';
  try {
    theme = localStorage.getItem('lorajax-theme') || theme;
  } catch (error) { /* storage may be closed to files; the choice then lasts for this visit */ }
  const apply = () => {
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    button.textContent = 'Theme: ' + theme;
  };
  button.hidden = false;
  button.addEventListener('click', () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try {
      localStorage.setItem('lorajax-theme', theme);
    } catch (error) { /* as above */ }
    apply();
  });
  apply();
}

// --- tables sort by any column, numbers as numbers, empty cells last ---------------------------
function sortTable(table, column, ascending) {
  const rows = [...table.tBodies[0].rows];
  const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const keys = new Map(rows.map((row) => [row, key(row)]));
  const numeric = rows.every((row) => keys.get(row) === '—' || !isNaN(keys.get(row)));
  rows.sort((one, two) => {
    const [a, b] = [keys.get(one), keys.get(two)];
    if ((a === '—') !== (b === '—')) return a === '—' ? 1 : -1;
    const order = numeric ? a - b : a.localeCompare(b, 'en', { numeric: true });
    return ascending ? order : -order;
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll('table')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector('button').addEventListener('click', () => {
      const ascending = head.getAttribute('aria-sort') !== 'ascending';
      heads.forEach((other) => other.setAttribute('aria-sort', 'none'));
      head.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
      sortTable(table, column, ascending);
    });
  });
}

// --- item browser ------------------------------------------------------------------------------
if (byId('data')) {
  const PER_PAGE = 20;
  const tasks = JSON.parse(byId('data').textContent).tasks;
  const task = byId('task');
  const show = byId('show');
  const right = byId('right');
  const wrong = byId('wrong');
  const text = byId('text');
  let page = 0;

  const fill = (select, names) => {
    const chosen = select.value;
    select.replaceChildren(...names.map((name) => {
      const option = element('option', name === '' ? 'any method' : name);
      option.value = name;
      return option;
    }));
    if (names.includes(chosen)) select.value = chosen;
  };

  const passes = (item, methods, words) => {
    const good = item.right.filter((value, i) => value && item.answer_of[i] >= 0).length;
    const total = item.answer_of.filter((value) => value >= 0).length;
    if (show.value === 'differ' && (good === 0 || good === total)) return false;
    if (show.value === 'none' && good > 0) return false;
    if (show.value === 'each' && good < total) return false;
    const has = (method, value) => {
      const place = methods.indexOf(method);
      return item.answer_of[place] >= 0 && item.right[place] === value;
    };
    if (right.value && !has(right.value, 1)) return false;
    if (wrong.value && !has(wrong.value, 0)) return false;
    const all = [item.item, item.prompt, item.reference, ...item.answers].join('\n').toLowerCase();
    return words.every((word) => all.includes(word));
  };

  const card = (item, methods) => {
    const made = element('article');
    made.append(element('h3', item.item));
    if (item.prompt) made.append(element('pre', item.prompt));
    const list = element('dl');
    const row = (term, answer) => {
      const value = element('dd');
      value.append(answer === '' ? element('span', 'empty', 'empty') : element('pre', answer));
      list.append(term, value);
    };
    row(element('dt', 'reference'), item.reference);
    item.answers.forEach((answer, index) => {
      const term = element('dt');
      methods.forEach((method, place) => {
        if (item.answer_of[place] !== index) return;
        const good = item.right[place];
        term.append(element('span', (good ? '✓ ' : '✗ ') + method, 'chip ' + (good ? 'right' : 'wrong')));
      });
      row(term, answer);
    });
    made.append(list);
    return made;
  };

  const update = () => {
    const { methods, items, n } = tasks[Number(task.value)];
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = items.filter((item) => passes(item, methods, words));
    const pages = Math.max(1, Math.ceil(matching.length / PER_PAGE));
    page = Math.min(page, pages - 1);
    const cut = items.length < n ? ' (the first ' + items.length + ' of ' + n + ' are stored here)' : '';
    byId('matches').textContent = matching.length + ' of ' + items.length + ' items' + cut;
    byId('list').replaceChildren(
      ...matching.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map((item) => card(item, methods)));
    byId('pager').hidden = pages === 1;
    byId('page').textContent = 'page ' + (page + 1) + ' of ' + pages;
    byId('back').disabled = page === 0;
    byId('next').disabled = page === pages - 1;
  };
  const restart = () => { page = 0; update(); };
  const turn = (step) => { page += step; update(); byId('items').scrollIntoView(); };

  task.replaceChildren(...tasks.map((entry, index) => {
    const option = element('option', entry.task);
    option.value = index;
    return option;
  }));
  const changeTask = () => {
    const names = ['', ...tasks[Number(task.value)].methods];
    fill(right, names);
    fill(wrong, names);
    restart();
  };
  task.addEventListener('change', changeTask);
  for (const control of [show, right, wrong]) control.addEventListener('change', restart);
  text.addEventListener('input', restart);
  byId('filters').addEventListener('submit', (event) => event.preventDefault());
  byId('back').addEventListener('click', () => turn(-1));
  byId('next').addEventListener('click', () => turn(1));
  byId('filters').hidden = false;
  changeTask();
}
