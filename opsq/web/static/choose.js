// Choosing tasks of the list: ticks, the key x, and a bar that says what is chosen and what can be done with it.
(() => {
  'use strict';

  const form = document.getElementById('choose');
  if (!form) return;
  const bar = form.querySelector('.bulk');
  const head = form.querySelector('#choose-page');
  const all = form.querySelector('[data-do="choose-all"]');
  const line = form.querySelector('input[name="q"]');
  const boxes = () => [...form.querySelectorAll('#rows input[name="id"]')];
  const stateOf = (box) => box.closest('tr').querySelector('.state')?.textContent.trim() || '';
  let last = null;

  // Of one state, those that the facets count under the same filter; of several, what the filter matches.
  const whole = (states) => {
    const facet = states.length === 1 && form.ownerDocument.querySelector(`#facets a[data-state="${CSS.escape(states[0])}"]`);
    return facet ? { q: facet.dataset.line, count: facet.querySelector('.n').textContent, what: `that are ${states[0]}` } : null;
  };

  const tell = () => {
    const found = boxes();
    const chosen = found.filter((box) => box.checked);
    if (!chosen.length) line.disabled = true;
    head.checked = chosen.length > 0 && chosen.length === found.length;
    head.indeterminate = chosen.length > 0 && !head.checked;
    if (!chosen.length) return;
    const states = [...new Set(chosen.map(stateOf))];
    const more = whole(states);
    const every = !line.disabled;
    bar.querySelector('b').textContent = every ? `All ${more?.count} selected` : `${chosen.length} selected`;
    bar.querySelector('.of').textContent = every ? `, everything ${more?.what}. ` : states.length === 1 ? `, all ${states[0]}. ` : '. ';
    all.hidden = every || !more || more.count === String(chosen.length);
    if (more) all.textContent = `Select all ${more.count} ${more.what}`;
  };

  const choose = (list, on) => {
    for (const box of list) box.checked = on;
    line.disabled = true;
    tell();
  };

  form.addEventListener('change', (e) => {
    if (e.target === head) choose(boxes(), head.checked);
    else if (e.target.name === 'id') { line.disabled = true; tell(); }
  });
  form.addEventListener('click', (e) => {
    const box = e.target.closest('#rows input[name="id"]');
    if (box && e.shiftKey && last) {
      const list = boxes();
      const [from, to] = [list.indexOf(last), list.indexOf(box)].sort((a, b) => a - b);
      if (from >= 0) choose(list.slice(from, to + 1), box.checked);
    }
    if (box) last = box;
    const what = e.target.closest('[data-do]')?.dataset.do;
    if (what === 'choose-none') choose(boxes(), false);
    if (what === 'choose-all') {
      line.value = whole([...new Set(boxes().filter((each) => each.checked).map(stateOf))])?.q || '';
      line.disabled = !line.value;
      tell();
      bar.querySelector('button').focus();
    }
  });
  // What is meant is either the chosen ones or everything under the line, never both.
  form.addEventListener('formdata', (e) => { if (!line.disabled) e.formData.delete('id'); });

  // Before the page's own keys: Escape closes a dialog there, and must not clear what it was about as well.
  document.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector('dialog[open]')) return;
    if (e.target.matches?.('input:not([type="checkbox"]), textarea, select')) return;
    if (e.key === 'x') {
      const box = form.querySelector('tr.cursor input[name="id"]');
      if (box) { e.preventDefault(); box.checked = !box.checked; line.disabled = true; last = box; tell(); }
    }
    if (e.key === 'Escape') choose(boxes(), false);
  }, true);
  document.addEventListener('htmx:sse:after:message', tell);
  document.addEventListener('htmx:after:swap', tell);
  tell();
})();
