// The watchdog of pages that keep themselves up to date, and the keys. It works, and says so, when nothing else does.
(() => {
  'use strict';
  // A page says that it is not live within 10 s, and is checked each half second.
  const patience = 8000;
  const root = document.documentElement;
  const get = (id) => document.getElementById(id);
  let live = get('live');
  let tried = 0;
  let heard = Date.now();
  let alive = heard;
  let since = get('clock') ? get('clock').textContent : '';
  let paused = false;
  let verdict = said();

  function said() {
    const now = document.querySelector('[data-verdict]');
    return now ? { text: now.textContent.trim(), level: now.dataset.verdict, icon: now.dataset.icon } : null;
  }

  // show brings title, icon and what is read aloud in line with the verdict.
  function show() {
    const now = said();
    if (!now) return;
    const name = document.title.split(' · ').slice(1).join(' · ');
    document.title = now.text.split(' ')[0] + ' ' + now.level + ' · ' + name;
    get('icon').href = now.icon;
    if (verdict && now.text !== verdict.text) get('said').textContent = now.text;
    verdict = now;
  }

  function die() {
    if (root.classList.contains('not-live')) return;
    root.classList.add('not-live');
    get('dead').textContent = 'NOT LIVE since ' + since + '. What is shown below is from then.';
    document.title = 'NOT LIVE since ' + since + ' · BOBO Sync · BOBO Sync';
    get('icon').href = get('dead').dataset.icon;
  }

  function live_again() {
    if (!root.classList.contains('not-live')) return;
    root.classList.remove('not-live');
    get('dead').textContent = '';
    document.title = '· ' + document.querySelector('h1').textContent + ' · BOBO Sync';
    show();
  }

  // again reopens the stream: htmx does so by itself only with one that was open and has ended. A screen on the wall loads its page again as
  // soon as it can be had: its token is in the address, and a console that has restarted knows it by nothing else.
  function again() {
    if (Date.now() - tried <= patience) return;
    tried = Date.now();
    if (root.dataset.version) fetch(location.href).then((r) => { if (r.ok) location.reload(); }, () => {});
    if (root.dataset.version || !window.htmx || document.hidden && htmx.config.sse.pauseOnBackground) return;
    const old = live, stream = old._htmx && old._htmx.sse;
    live = old.cloneNode();
    old.replaceWith(live);
    if (stream && stream.reader) stream.reader.cancel();
    if (stream) stream.abortController.abort();
    htmx.process(live);
  }

  // awake reports whether the page was: what a tab hears that has slept is of the past.
  function awake() {
    const slept = Date.now() - alive > patience;
    alive = Date.now();
    if (slept) heard = 0;
    return !slept;
  }

  // hear notes what is known: facts of age seconds ago, however late they arrive.
  function hear(at, age) {
    heard = Date.now() - age * 1000;
    since = at;
    live_again();
    state('live', at);
  }

  function state(word, at) {
    if (get('state')) get('state').textContent = word;
    if (get('clock')) get('clock').textContent = at;
    const button = get('pause');
    if (button) button.hidden = false;
  }

  if (live) {
    document.addEventListener('beat', (e) => {
      const beat = JSON.parse(e.detail.data);
      if (root.dataset.version && root.dataset.version !== beat.version) location.reload();
      if (awake() && beat.age * 1000 < patience) hear(beat.at, beat.age);
    });
    document.addEventListener('htmx:after:swap', () => { show(); state(paused ? 'paused at' : 'live', since); });
    setInterval(() => {
      awake();
      if (paused || Date.now() - heard <= patience) return;
      die();
      again();
    }, 500);
    document.addEventListener('click', (e) => {
      if (e.target.id !== 'pause') return;
      if (paused) { location.reload(); return; }
      paused = true;
      live.remove();
      state('paused at', since);
      e.target.textContent = 'Go on';
    });
  }

  // A session's end is said two minutes before, and when a tab wakes up; who goes on loses nothing that he has typed.
  const ends = get('ends');
  let next;
  function ask(method) {
    clearTimeout(next);
    next = setTimeout(ask, 60000);
    fetch('/session', { method: method === 'POST' ? 'POST' : 'GET', headers: { 'Hx-Request': 'true' } }).then((r) => (r.ok ? r.json() : {})).then(tell, () => {});
  }

  function tell(session) {
    if (!session.ends) return;
    const idle = Date.parse(session.idle_ends), whole = Date.parse(session.ends);
    const left = Math.min(idle, whole) - Date.parse(session.now) - 120000;
    if (left > 0) {
      ends.hidden = true;
      clearTimeout(next);
      next = setTimeout(ask, Math.min(left, 60000));
      return;
    }
    const at = new Date(Date.now() + left + 120000).toLocaleTimeString();
    const last = whole <= idle;
    ends.querySelector('span').textContent = last ? 'Your session ends at ' + at + '. Log in again in another tab, and go on here: nothing typed is lost.'
      : 'Your session ends at ' + at + ' unless you go on.';
    ends.querySelector('button').hidden = last;
    ends.hidden = false;
  }

  if (ends) {
    ends.querySelector('button').addEventListener('click', () => ask('POST'));
    document.addEventListener('visibilitychange', () => { if (!document.hidden) ask(); });
    ask();
  }

  let went = 0;
  document.addEventListener('keydown', (e) => {
    const at = e.target;
    if (!root.dataset.keys || e.ctrlKey || e.altKey || e.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName)) return;
    const go = Date.now() - went < 1500;
    went = 0;
    if (e.key === '/') {
      const field = document.querySelector('input[type=search]');
      if (field) { e.preventDefault(); field.focus(); }
    } else if (e.key === 'c' && ends && !ends.hidden) ask('POST');
    else if (e.key === '?') location.assign('/help/keys');
    else if (e.key === 'g') went = Date.now();
    else if (go && e.key === 'n') location.assign('/');
    else if (go && e.key === 'd') location.assign('/decisions');
  });
})();
