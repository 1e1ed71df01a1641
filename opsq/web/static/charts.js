// opsq: the server's charts, redrawn by uPlot in the same place: what stands under the pointer is read out on all
// charts of one time axis, and a stretch that is drawn with the mouse becomes the page's range. Axes, marks and
// limits stay the server's; only the lines are drawn here, in the colours that the style sheet gives their SVG.
(() => {
  'use strict';
  if (!window.uPlot) return;

  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const NBSP = '\u00a0';
  const NEAR_PX = 6;
  const LEAST_DRAG_PX = 8;
  const LEAST_RANGE_S = 60;
  const POINT_PX = 6;

  // ---- words: the same rules as words.py, a test compares them
  const trim = (text) => text.replace(/\.0+$/, '');
  const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ',');
  const significant = (v) => {
    const size = Math.abs(v);
    if (size >= 999500) return size >= 99950000 ? `${(v / 1e6).toFixed(0)}${NBSP}M` : `${trim((v / 1e6).toFixed(1))}${NBSP}M`;
    if (size >= 99.95 || Number.isInteger(v)) return grouped(Math.round(v));
    if (size >= 0.995) return trim(v.toFixed(1));
    if (size >= 0.0995) return v.toFixed(2);
    return size >= 0.0005 ? String(Number(v.toPrecision(2))) : '0';
  };
  const UNITS = [[60, 'min', 1, 's'], [3600, 'h', 60, 'min'], [86400, 'd', 3600, 'h']];
  const duration = (s) => {
    if (s < 0.9995) return `${s >= 0.00995 ? Math.round(s * 1000) : s >= 0.00005 ? trim((s * 1000).toFixed(1)) : '0'}${NBSP}ms`;
    if (s < 9.95) return `${trim(s.toFixed(1))}${NBSP}s`;
    if (s < 59.95) return `${Number.isInteger(s) ? s : s.toFixed(1)}${NBSP}s`;
    const [size, unit, small, smallUnit] = UNITS.find(([length, name, minor]) => name === 'd' || s < length * (name === 'min' ? 60 : 24) - minor / 2);
    const whole = Math.round(s / small);
    const rest = whole % (size / small);
    return `${grouped(Math.floor(whole / (size / small)))}${NBSP}${unit}${rest ? `${NBSP}${rest}${NBSP}${smallUnit}` : ''}`;
  };
  const say = (value, unit) => value === null || value === undefined ? '–' : unit === 's' ? duration(value) : significant(value);
  const iso = (at) => new Date(at * 1000).toISOString().slice(0, 19);
  const moment = (at, width) => {
    const text = new Date(at * 1000).toUTCString(); // Thu, 19 Nov 2026 03:14:00 GMT
    const day = `${Number(text.slice(5, 7))}${NBSP}${text.slice(8, 11)}`;
    if (width >= 86400) return day;
    return width >= 3600 ? `${day} ${text.slice(17, 22)}` : text.slice(17, width >= 60 ? 22 : 25);
  };
  window.opsqWords = { duration, significant };

  // ---- looks: read off the style sheet through a path of the same class
  const probe = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  const probes = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  probes.setAttribute('class', 'sprite plot');
  probes.setAttribute('aria-hidden', 'true');
  probes.append(probe);
  document.body.append(probes);
  let looks = {};
  const lookOf = (css) => {
    if (looks[css]) return looks[css];
    probe.setAttribute('class', css);
    const style = getComputedStyle(probe);
    const alpha = Number(style.fillOpacity);
    return (looks[css] = {
      stroke: style.stroke,
      width: parseFloat(style.strokeWidth) || 1,
      dash: style.strokeDasharray === 'none' ? [] : style.strokeDasharray.split(/[ ,]+/).map(parseFloat),
      fill: style.fill.replace(/^rgb\((.*)\)$/, (_, parts) => `rgba(${parts}, ${alpha})`),
    });
  };

  // ---- data: a line is two series, its closed buckets and the last step, whose bucket still fills
  const columns = (plot) => {
    const n = plot.lines[0].v.length;
    const times = Array.from({ length: n }, (_, i) => plot.t + i * plot.w);
    const split = (v) => {
      const open = plot.open && n > 1 && v[n - 1] !== null && v[n - 2] !== null;
      return [v.map((x, i) => open && i === n - 1 ? null : x), v.map((x, i) => open && i >= n - 2 ? x : null)];
    };
    return [times, ...[...plot.lines].reverse().flatMap((line) => split(line.v))];
  };
  // A value between two gaps makes no line: it is drawn as a point.
  const alone = (u, index) => {
    const v = u.data[index];
    const found = [];
    for (let i = 0; i < v.length; i += 1) if (v[i] !== null && (v[i - 1] ?? null) === null && (v[i + 1] ?? null) === null) found.push(i);
    return found.length && index % 2 ? found : null;
  };
  const series = (line) => [false, true].map((open) => {
    const css = `ln ${line.c}${open ? ' open' : ''}`;
    return {
      stroke: () => lookOf(css).stroke,
      width: lookOf(css).width,
      dash: lookOf(css).dash,
      paths: line.s ? window.uPlot.paths.stepped({ align: 1 }) : undefined, // a size holds until the next one
      fill: line.a ? () => lookOf(`ar soft ${line.c}`).fill : undefined,
      points: { show: false, filter: alone, size: 3, stroke: () => lookOf(css).stroke, fill: () => lookOf(css).stroke },
      spanGaps: false,
    };
  });

  // ---- readout: legend, time and marks follow the pointer on every chart of the section
  const charts = new Map(); // the element that holds the canvas -> what is drawn in it
  const write = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };
  const readout = (chart) => {
    const { u, plot, figure, at } = chart;
    const i = u.cursor.idx;
    const on = i !== null && i !== undefined && u.cursor.left >= 0;
    for (const line of plot.lines) {
      const value = $(`.legend [data-key="${CSS.escape(line.k)}"] b`, figure);
      if (!value) continue;
      if (on) {
        const text = say(line.v[i], line.u);
        if (value.textContent !== text && value.textContent !== chart.wrote[line.k]) chart.told[line.k] = value.textContent;
        chart.wrote[line.k] = text;
        write(value, text);
      } else if (line.k in chart.wrote) {
        if (value.textContent === chart.wrote[line.k]) write(value, chart.told[line.k] ?? value.textContent);
        delete chart.wrote[line.k];
      }
    }
    at.hidden = !on;
    if (on) {
      write(at, moment(plot.t + i * plot.w, plot.w));
      at.style.left = `${Math.min(Math.max(u.cursor.left, 24), u.width - 24)}px`;
    }
    for (const mark of $$('.mark', figure)) {
      const near = on && Math.abs(Number(mark.dataset.x) / 100 * u.width - u.cursor.left) < NEAR_PX;
      if (mark.classList.contains('near') !== near) mark.classList.toggle('near', near);
    }
  };
  const show = (from, to) => {
    const middle = (from + to) / 2;
    const half = Math.max(LEAST_RANGE_S, to - from) / 2;
    const url = new URL(location.href);
    for (const name of ['range', 'before']) url.searchParams.delete(name);
    url.searchParams.set('from', iso(middle - half));
    url.searchParams.set('to', iso(middle + half));
    location.assign(url);
  };
  const chosen = (u) => {
    const { left, width } = u.select;
    if (width >= LEAST_DRAG_PX) show(u.posToVal(left, 'x'), u.posToVal(left + width, 'x'));
  };

  const draw = (host, figure, plot) => {
    // A pixel more than the server's at the foot, so that a line along 0 is whole.
    const height = Number($('.traces', figure).getAttribute('height')) + 1;
    const foot = () => plot.log ? chart.plot.lo : chart.plot.lo - (chart.plot.hi - chart.plot.lo) / (height - 1);
    const section = figure.closest('section');
    const chart = { figure, plot, wrote: {}, told: {}, at: document.createElement('span') };
    chart.at.className = 'at';
    chart.at.hidden = true;
    const edges = () => [chart.plot.t, chart.plot.t + chart.plot.w * Math.max(1, chart.plot.lines[0].v.length - 1)];
    chart.u = new window.uPlot({
      width: host.clientWidth, height, padding: [0, 0, 0, 0], legend: { show: false },
      axes: [{ show: false }, { show: false }],
      scales: {
        x: { time: false, range: edges },
        y: { distr: plot.log ? 3 : 1, range: () => [foot(), chart.plot.hi] },
      },
      series: [{}, ...[...plot.lines].reverse().flatMap(series)],
      cursor: {
        y: false, sync: { key: section?.getAttribute('aria-labelledby') || 'page' },
        drag: { x: true, y: false, setScale: false, dist: LEAST_DRAG_PX },
        points: { size: POINT_PX, width: 0, fill: (u, i) => u.series[i]._stroke },
      },
      hooks: { setCursor: [() => readout(chart)], setSelect: [chosen] },
    }, columns(plot), host);
    host.append(chart.at);
    return chart;
  };

  const shape = (plot) => plot.lines.map((line) => line.k).join() + plot.log;
  const refresh = (host) => {
    const figure = host.closest('figure');
    const text = $('.numbers', figure)?.textContent;
    const known = charts.get(host);
    if (!text || host.clientWidth === 0) return;
    if (known?.text !== text) {
      const plot = JSON.parse(text);
      if (known && shape(known.plot) === shape(plot) && known.figure === figure) {
        known.plot = plot;
        known.u.setData(columns(plot), true);
      } else {
        known?.u.destroy();
        host.replaceChildren();
        charts.set(host, draw(host, figure, plot));
      }
      charts.get(host).text = text;
    }
    readout(charts.get(host));
  };
  const refreshAll = () => {
    for (const [host, chart] of charts) if (!host.isConnected) { chart.u.destroy(); charts.delete(host); }
    if (!document.hidden) for (const host of $$('.plot > .canvas')) refresh(host);
  };
  // A microtask after the page was morphed, so that nobody sees a legend jump back under the pointer.
  new MutationObserver(refreshAll).observe($('main'), { childList: true, subtree: true, characterData: true });

  // ---- what the picture depends on: its width, the theme
  new ResizeObserver(() => {
    for (const [host, { u }] of charts) if (host.clientWidth && host.clientWidth !== u.width) u.setSize({ width: host.clientWidth, height: u.height });
    refreshAll();
  }).observe($('main'));
  const repaint = () => {
    looks = {};
    for (const { u } of charts.values()) u.redraw(false, false);
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
  new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ['data-theme'] });
  document.addEventListener('visibilitychange', refreshAll);
  refreshAll();
})();
