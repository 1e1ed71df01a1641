// opsq: what the page does beyond links and forms. No task is ever acted on from here without its preview.
// Everything is delegated from the document, because live updates morph the page under our feet.
(() => {
  'use strict';

  const root = document.documentElement;
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

  // ---- choices that stay: cookies, so that the server draws the page right at once, without a flash
  const remember = (name, value) => {
    document.cookie = `opsq_${name}=${value}; path=${root.dataset.base || '/'}; max-age=31536000; samesite=lax`;
  };
  const isDark = () => root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  const switchTheme = () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    remember('theme', root.dataset.theme);
  };
  const switchDensity = () => {
    root.dataset.density = root.dataset.density === 'compact' ? 'normal' : 'compact';
    remember('density', root.dataset.density);
  };

  // ---- relative times: the server sends the moment, this keeps the words true each second
  const NBSP = '\u00a0';
  const skew = () => Number(root.dataset.now || Date.now() / 1000) - (loadedAt / 1000);
  const loadedAt = Date.now();
  const serverNow = () => Date.now() / 1000 + skew();
  const inOneUnit = (s) => {
    if (s < 1) return 'now';
    for (const [length, unit] of [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']]) {
      if (s >= length) return `${Math.floor(s / length)}${NBSP}${unit}`;
    }
    return 'now';
  };
  const inTwoUnits = (s) => {
    if (s < 60) return `${s < 10 ? Math.max(0.1, s).toFixed(1) : Math.round(s)}${NBSP}s`;
    const pairs = [[86400, 'd', 3600, 'h'], [3600, 'h', 60, 'min'], [60, 'min', 1, 's']];
    for (const [major, unit, minor, small] of pairs) {
      if (s >= major) {
        const rest = Math.floor((s % major) / minor);
        return `${Math.floor(s / major)}${NBSP}${unit}` + (rest ? `${NBSP}${rest}${NBSP}${small}` : '');
      }
    }
    return '';
  };
  const tellTime = () => {
    if (document.hidden || paused) return;
    const now = serverNow();
    for (const el of $$('[data-age]')) {
      const text = inOneUnit(now - Number(el.dataset.age)) + (el.dataset.suffix && now - Number(el.dataset.age) >= 1 ? el.dataset.suffix : '');
      if (el.textContent !== text) el.textContent = text;
    }
    for (const el of $$('[data-since]')) {
      const text = inTwoUnits(Math.max(0, now - Number(el.dataset.since)));
      if (el.textContent !== text) el.textContent = text;
    }
  };

  // ---- live: pause takes the stream element away, live puts a fresh one in its place
  let paused = false;
  const streamUrl = $('#live')?.dataset.stream || '';
  const goLive = () => {
    const live = document.createElement('div');
    live.id = 'live';
    live.hidden = true;
    live.setAttribute('hx-sse:connect', streamUrl);
    live.setAttribute('hx-trigger', 'load, every 5s');
    live.setAttribute('hx-swap', 'none');
    $('#live')?.remove();
    document.body.append(live);
    window.htmx?.process(live);
  };
  // htmx goes over the page from a timer that may run before its extension for streams is loaded; an element that was
  // there by then would never be connected. So the element comes after both.
  if (streamUrl) document.addEventListener('DOMContentLoaded', () => setTimeout(goLive));
  const setPaused = (on) => {
    if (on === paused || !streamUrl) return;
    paused = on;
    const button = $('#live-button');
    if (button) {
      button.setAttribute('aria-pressed', String(!on));
      button.textContent = on ? 'Paused' : 'Live';
    }
    if (on) {
      $('#live')?.remove();
      banner('paused', `Paused at ${new Date(serverNow() * 1000).toISOString().slice(11, 19)} UTC.`, 'The numbers stay as they were.', 'Go live');
    } else {
      banner('paused', null);
      goLive();
    }
  };

  // ---- banners: one per cause, gone when the cause is
  const banner = (cause, strong, rest = '', action = '') => {
    const box = $('#banner-' + cause);
    if (!box) return;
    box.hidden = strong === null;
    if (strong === null) return;
    $('b', box).textContent = strong;
    $('.rest', box).textContent = rest ? ' ' + rest : '';
    const button = $('button', box);
    if (button) button.textContent = action || button.textContent;
  };
  let brokenSince = 0;
  const connectionBroke = () => {
    if (paused) return;
    brokenSince ||= Date.now();
    const age = Math.round((Date.now() - brokenSince) / 1000);
    if (age >= 2) banner('offline', `No connection for ${age}${NBSP}s.`, 'The numbers are as they were; trying again.', 'Try now');
  };
  const connectionWorks = () => {
    brokenSince = 0;
    banner('offline', null);
  };
  document.addEventListener('htmx:sse:after:connection', connectionWorks);
  document.addEventListener('htmx:sse:after:message', () => { connectionWorks(); tellTime(); });
  for (const name of ['htmx:sse:error', 'htmx:response:error', 'htmx:error']) document.addEventListener(name, connectionBroke);
  document.addEventListener('htmx:sse:close', (e) => { if (e.detail?.reason === 'ended') connectionBroke(); });
  setInterval(() => { if (brokenSince) connectionBroke(); }, 1000);

  // ---- a live list: rows may change in place, but none comes or goes under the hand
  let waitingList = null;
  let pointerInList = false;
  const list = () => $('#rows');
  const busy = () => {
    const rows = list();
    if (!rows) return false;
    const selection = document.getSelection();
    return pointerInList || rows.contains(document.activeElement) || Boolean($('tr.cursor, input:checked', rows))  // the keyboard's hand
      || (selection && !selection.isCollapsed && rows.contains(selection.anchorNode));
  };
  const newRows = (html) => {
    const have = new Set($$('tr[id]', list()).map((row) => row.id));
    return [...html.matchAll(/<tr id="([^"]+)"/g)].filter((match) => !have.has(match[1])).length;
  };
  const showList = () => {
    if (!waitingList || !list()) return;
    const html = waitingList;
    waitingList = null;
    $('#fresh-row').hidden = true;
    window.htmx.swap({ text: html, target: list(), swap: 'innerMorph', sourceElement: list() });
  };
  const offerList = () => {
    if (!waitingList || !list()) return;
    if (!busy()) { showList(); return; }
    const count = newRows(waitingList);
    const row = $('#fresh-row');
    row.hidden = count === 0;
    $('.how-many', row).textContent = count === 1 ? '1 new task. Show it' : `${count} new tasks. Show them`;
  };
  document.addEventListener('list', (e) => { waitingList = e.detail?.data || null; offerList(); });
  document.addEventListener('pointerover', (e) => {
    const inside = e.pointerType === 'mouse' && Boolean(list()?.contains(e.target));
    if (inside !== pointerInList) { pointerInList = inside; if (!inside) setTimeout(offerList, 300); }
  });
  document.addEventListener('focusout', () => setTimeout(offerList, 300));

  // ---- suggestions: of the term being typed; the list is the server's, without script the manual says the same
  const suggestBox = () => $('#suggest');
  const lastTerm = (text) => text.match(/(?:[^\s"]|"[^"]*"?)*$/)[0];
  let picked = -1;
  const suggest = (input) => {
    const box = suggestBox();
    if (!box) return;
    const term = lastTerm(input.value).toLowerCase();
    const minus = term.startsWith('-') ? '-' : '';
    const begun = term.slice(minus.length);
    const found = begun === '' ? [] : $$('#terms option').filter((o) => o.value.toLowerCase().startsWith(begun)
      && o.value.toLowerCase() !== begun || (o.value.includes(':') && begun.length > 2
      && o.value.split(':')[1].toLowerCase().includes(begun))).slice(0, 8);
    picked = -1;
    box.replaceChildren(...found.map((option, i) => {
      const item = document.createElement('li');
      item.id = `suggest-${i}`;
      item.role = 'option';
      item.dataset.term = minus + option.value;
      const name = document.createElement('code');
      name.textContent = minus + option.value;
      const doc = document.createElement('span');
      doc.textContent = option.label;
      item.append(name, doc);
      return item;
    }));
    box.hidden = found.length === 0;
    input.setAttribute('aria-expanded', String(!box.hidden));
    input.removeAttribute('aria-activedescendant');
  };
  const pick = (input, by) => {
    const items = $$('#suggest li');
    if (!items.length) return;
    picked = (picked + by + items.length + (picked < 0 && by < 0 ? 1 : 0)) % items.length;
    items.forEach((item, i) => item.setAttribute('aria-selected', String(i === picked)));
    items[picked].scrollIntoView({ block: 'nearest' });
    input.setAttribute('aria-activedescendant', items[picked].id);
  };
  const take = (input, term) => {
    const typed = lastTerm(input.value);
    input.value = input.value.slice(0, input.value.length - typed.length) + term + (term.endsWith(':') ? '' : ' ');
    input.focus();
    suggest(input);
  };
  const closeSuggest = () => {
    const box = suggestBox();
    if (!box || box.hidden) return false;
    box.hidden = true;
    picked = -1;
    const input = $('[data-suggest]');
    input?.setAttribute('aria-expanded', 'false');
    input?.removeAttribute('aria-activedescendant');
    return true;
  };
  for (const input of $$('[data-suggest]')) {
    input.setAttribute('role', 'combobox');
    input.setAttribute('aria-controls', 'suggest');
    input.setAttribute('aria-autocomplete', 'list');
    input.setAttribute('aria-expanded', 'false');
  }
  document.addEventListener('input', (e) => { if (e.target.matches?.('[data-suggest]')) suggest(e.target); });
  document.addEventListener('keydown', (e) => {
    if (!e.target.matches?.('[data-suggest]') || suggestBox()?.hidden !== false) return;
    if (e.key === 'ArrowDown' || e.key === 'ArrowUp') { e.preventDefault(); pick(e.target, e.key === 'ArrowDown' ? 1 : -1); }
    if ((e.key === 'Enter' || e.key === 'Tab') && picked >= 0) { e.preventDefault(); take(e.target, $$('#suggest li')[picked].dataset.term); }
    if (e.key === 'Escape') { e.stopImmediatePropagation(); closeSuggest(); }
  }, true);
  document.addEventListener('pointerdown', (e) => {
    const item = e.target.closest?.('#suggest li');
    const input = $('[data-suggest]');
    if (item && input) { e.preventDefault(); take(input, item.dataset.term); } else if (e.target !== input) closeSuggest();
  });

  // ---- keys
  const typing = (el) => el?.matches?.('input, textarea, select, [contenteditable]');
  let cursor = '';
  const putCursor = () => {
    for (const row of $$('tr.cursor')) if (row.id !== cursor) row.classList.remove('cursor');
    const row = cursor && document.getElementById(cursor);
    if (row && !row.classList.contains('cursor')) row.classList.add('cursor');  // adding it again would be heard again
  };
  // A microtask after the page was morphed: no key can come in between and find no row.
  new MutationObserver(putCursor).observe(document.body, { attributeFilter: ['class'], childList: true, subtree: true });
  const move = (by) => {
    const rows = $$('table[data-keys] tbody tr[id]:has(a)');
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.id === cursor);
    const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
    cursor = next.id;
    putCursor();
    next.scrollIntoView({ block: 'nearest' });
  };
  const openRow = () => $('tr.cursor a')?.click();
  const close = () => {
    const open = $('dialog[open]');
    if (open) open.close();
    cursor = '';
    putCursor();
    if (typing(document.activeElement)) document.activeElement.blur();
    offerList();
  };
  const copy = (text, button) => navigator.clipboard?.writeText(text).then(() => {
    if (!button) return;
    const label = button.getAttribute('aria-label');
    button.setAttribute('aria-label', 'Copied');
    button.title = 'Copied';
    setTimeout(() => { button.setAttribute('aria-label', label); button.title = ''; }, 1500);
  });
  const range = (by) => {
    const links = $$('.range a');
    const at = links.findIndex((link) => link.hasAttribute('aria-current'));
    links[at + by]?.click();
  };
  const actions = {
    '/': () => ($('#q') || $('.jump input'))?.focus(),
    '?': () => $('#keys')?.showModal(),
    p: () => setPaused(!paused),
    n: showList,
    j: () => move(1),
    k: () => move(-1),
    Enter: openRow,
    c: () => copy($('[data-copy]')?.dataset.copy || ''),
    w: () => $('#why-line .more')?.click(),
    t: switchTheme,
    d: switchDensity,
    '[': () => range(-1),
    ']': () => range(1),
  };
  let leader = 0;
  document.addEventListener('keydown', (e) => {
    if (e.key === 'Escape') { close(); return; }
    if (e.ctrlKey || e.metaKey || e.altKey || typing(e.target)) return;
    if ($('dialog[open]')) return;
    if (Date.now() - leader < 1500) {
      leader = 0;
      const link = $(`[data-key="${CSS.escape(e.key)}"]`);
      if (link) { e.preventDefault(); link.click(); }
      return;
    }
    if (e.key === 'g') { leader = Date.now(); return; }
    if (e.key === 'Enter' && (!$('tr.cursor') || e.target.closest?.('a, button, summary'))) return;
    const act = actions[e.key];
    if (act) { e.preventDefault(); act(); }
  });

  // ---- buttons
  document.addEventListener('click', (e) => {
    const button = e.target.closest?.('[data-do]');
    if (!button) return;
    ({
      theme: switchTheme,
      density: switchDensity,
      keys: () => $('#keys')?.showModal(),
      close: () => button.closest('dialog')?.close(),
      pause: () => setPaused(!paused),
      live: () => setPaused(false),
      retry: () => location.reload(),
      show: showList,
      copy: () => copy(button.dataset.copy, button),
    })[button.dataset.do]?.();
  });

  setInterval(tellTime, 1000);
})();
