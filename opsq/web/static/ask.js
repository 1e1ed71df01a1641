// Acts and looks in a dialog. It shows the very page that the link leads to, so nothing is said twice; without script,
// or when what comes is no such page (signed out meanwhile), that page opens instead.
(() => {
  'use strict';

  let box = null;
  let turn = 0;  // an answer that comes after the dialog has moved on is not shown
  let acted = false;

  const dialog = () => {
    if (box) return box;
    box = document.createElement('dialog');
    box.id = 'ask';
    box.setAttribute('aria-labelledby', 'h-ask');
    box.innerHTML = '<header><h2 id="h-ask"></h2><button class="quiet" type="button" data-do="close" aria-label="Close">'
      + '<svg class="i" aria-hidden="true"><use href="#close"/></svg></button></header><div class="body"></div>';
    box.addEventListener('close', () => {
      turn += 1;
      // A page that does not live would go on showing what was before.
      if (acted && !document.getElementById('live')) location.reload();
      acted = false;
    });
    document.body.append(box);
    return box;
  };

  // "Back" leads to what the dialog stands before, as a rule
  const stays = (link) => new URL(link.href).pathname === location.pathname;

  const show = (sheet, title) => {
    const shown = dialog();
    const body = shown.querySelector('.body');
    const again = body.contains(document.activeElement) && document.activeElement.id;
    shown.querySelector('h2').textContent = title;
    body.replaceChildren(sheet);
    for (const link of body.querySelectorAll('a[data-close]')) {
      if (stays(link) && link.textContent === 'Back') link.textContent = 'Close';
    }
    if (!shown.open) shown.showModal();
    const first = body.querySelector('[aria-invalid="true"], input[required], textarea')
      || body.querySelector('button:not([disabled])') || shown.querySelector('[data-do="close"]');
    ((again && document.getElementById(again)) || first).focus();
    for (const input of body.querySelectorAll('[data-typed]')) typed(input);
  };

  const say = (text) => {
    const said = document.createElement('p');
    said.role = 'alert';
    said.textContent = text;
    show(said, 'No answer');
  };

  const open = async (url, options) => {
    const mine = ++turn;
    let found = null;
    try {
      const answer = await fetch(url, options);
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const sheet = page.querySelector('[data-sheet]');
      found = sheet && [document.importNode(sheet, true), page.querySelector('h1')?.textContent.trim() || ''];
    } catch { /* no answer: said below */ }
    if (mine !== turn) return;
    if (options) acted = true;
    if (!found && options) say('The monitor did not answer. It is not known whether it was done; the audit tells.');
    else if (!found) location.href = url;
    else {
      show(...found);
      const next = found[0].dataset.again;
      if (next) setTimeout(() => { if (mine === turn && box.open) open(next); }, 1000);
    }
  };

  // ---- the name of what cannot be undone: the button waits for it, and says how much is missing
  const typed = (input) => {
    const button = input.form?.querySelector('#do-it');
    const hint = document.getElementById('typed-left');
    const wanted = input.dataset.typed;
    if (!button || !hint) return;
    button.disabled = input.value !== wanted;
    const left = wanted.length - input.value.length;
    hint.textContent = !button.disabled ? '' : !wanted.startsWith(input.value) ? 'That is another name. '
      : left === 1 ? '1 letter to go. ' : `${left} letters to go. `;
  };
  document.addEventListener('input', (e) => { if (e.target.matches?.('[data-typed]')) typed(e.target); });

  document.addEventListener('click', (e) => {
    const link = e.target.closest?.('a[data-ask], #ask a[data-close]');
    if (!link || e.button || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
    if (link.dataset.ask !== undefined) { e.preventDefault(); open(link.href); return; }
    if (stays(link)) e.preventDefault();
    box.close();
  });
  document.addEventListener('submit', (e) => {
    const form = e.target;
    const sender = e.submitter;
    const url = sender?.getAttribute('formaction') || form.getAttribute('action');
    if (form.method === 'post' ? !form.closest('#ask') : sender?.dataset.ask === undefined) return;
    e.preventDefault();
    const fields = new URLSearchParams(new FormData(form, sender));
    if (form.method === 'post') {
      if (sender) sender.disabled = true;  // once is enough
      open(url, { method: 'POST', body: fields });
    } else open(`${url}?${fields}`);
  });
  for (const input of document.querySelectorAll('[data-typed]')) typed(input);
})();
