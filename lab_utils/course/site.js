// What a page of the site does without a kernel and without a network: demos whose pictures were
// drawn when the site was built, a search over all labs, and lists that open where there is room.
'use strict';

// ---------------------------------------------------------------------------------------- demos
// {pictures: [HTML], order: [place of the picture of each setting]}, from gzip in base64
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return JSON.parse(await new Response(plain).text());
}

// A control as what it can be set to and where it stands, whatever its kind.
function controlOf(input) {
  const isList = input.tagName === 'SELECT', isBox = input.type === 'checkbox';
  const labels = isList ? [...input.options].map(option => option.value)
    : isBox ? ['False', 'True'] : JSON.parse(input.dataset.labels);
  return {
    input, labels, name: input.name,
    get place() { return isList ? input.selectedIndex : isBox ? +input.checked : +input.value; },
    set place(place) {
      if (isList) input.selectedIndex = place;
      else if (isBox) input.checked = Boolean(place);
      else input.value = place;
    },
    say() {
      if (isList || isBox) return;
      input.setAttribute('aria-valuetext', labels[this.place]);
      input.nextElementSibling.textContent = labels[this.place];
    },
  };
}

// Shows a drawn picture; what it says is written below it, for telephones.
function put(picture, drawn) {
  if (picture.drawn === drawn) return;
  picture.innerHTML = picture.drawn = drawn;
  picture.nextElementSibling.textContent =
    picture.querySelector('svg[role=img]')?.getAttribute('aria-label') ?? '';
}

async function start(demo) {
  const frames = await unpack(demo.querySelector('.frames').textContent);
  const picture = demo.querySelector('.picture');
  const controls = [...demo.querySelectorAll('.control :is(input, select)')].map(controlOf);
  const byName = Object.fromEntries(controls.map(control => [control.name, control]));
  const begin = controls.map(control => control.place);
  const step = demo.querySelector('.player') && byName.step;
  let linking = 0;

  // the picture's number for the places of all controls: the last control's are next to each other
  const numberAt = places =>
    frames.order[controls.reduce((sum, c, i) => sum * c.labels.length + places[i], 0)];

  // the course ends where one event more would show the same
  function fitCourse() {
    const places = controls.map(control => control.place);
    const at = place => numberAt(places.map((p, i) => controls[i] === step ? place : p));
    let last = step.labels.length - 1;
    while (last > 0 && at(last) === at(last - 1)) last--;
    step.input.max = last;
  }

  function show() {
    for (const {input} of controls.filter(control => control.input.dataset.needs)) {
      const [name, wanted] = input.dataset.needs.split('=');
      input.disabled = byName[name].labels[byName[name].place] !== wanted;
    }
    if (step) fitCourse();
    controls.forEach(control => control.say());
    put(picture, frames.pictures[numberAt(controls.map(control => control.place))]);
  }

  // ?name=value&...; what is not named begins anew
  function set(query) {
    const wanted = new URLSearchParams(query);
    if (step) step.input.max = step.labels.length - 1;
    controls.forEach((control, i) => {
      const place = control.labels.indexOf(wanted.get(control.name));
      control.place = place < 0 ? begin[i] : place;
    });
    show();
  }

  // the address leads back to what is shown; browsers refuse it many times a second
  function link() {
    clearTimeout(linking);
    linking = setTimeout(() => {
      const settings = controls.filter(control => !control.input.disabled)
        .map(control => [control.name, control.labels[control.place]]);
      history.replaceState(null, '', `#${demo.id}?${new URLSearchParams(settings)}`);
    }, 400);
  }

  demo.querySelector('.controls').addEventListener('input', () => { show(); link(); });
  demo.querySelector('.presets').addEventListener('click', event => {
    if (!event.target.hash) return;
    event.preventDefault();
    set(event.target.hash.split('?')[1]);
    link();
  });
  if (step) play(demo, step, show);
  const follow = () => {
    const [name, query] = location.hash.slice(1).split('?');
    if (name !== demo.id) return;
    if (query) set(query);
    demo.closest('details')?.setAttribute('open', '');
    demo.scrollIntoView();
  };
  addEventListener('hashchange', follow);
  demo.querySelectorAll('.controls, .presets').forEach(part => { part.hidden = false; });
  show();
  follow();
}

// Buttons that move the step by one, or by one every 600 ms until its end.
function play(demo, step, show) {
  const button = demo.querySelector('[data-play]');
  let timer = 0;
  const move = by => { step.place = Math.min(Math.max(step.place + by, 0), +step.input.max); show(); };
  const playing = on => {
    clearInterval(timer);
    timer = on && setInterval(() => step.place < +step.input.max ? move(1) : playing(false), 600);
    button.setAttribute('aria-pressed', String(on));
    button.textContent = on ? 'pause' : 'play';
  };
  button.onclick = () => {
    const on = button.getAttribute('aria-pressed') === 'false';
    if (on && step.place >= +step.input.max) move(-step.place);
    playing(on);
  };
  demo.querySelectorAll('[data-by]').forEach(other => { other.onclick = () => move(+other.dataset.by); });
}

// Two raters vote on pairs, as long as the page is open: {pairs: [HTML], and for each question
// {pictures: [HTML], place: {"n,n,n,n": place of the picture}}}, by how often the raters said what.
async function startVotes(demo) {
  const frames = await unpack(demo.querySelector('.frames').textContent);
  const [pair, ...agreements] = demo.querySelectorAll('.picture');
  const [rater, ...questions] = [...demo.querySelectorAll('fieldset')].map(field =>
    ({name: field.dataset.name, options: [...field.querySelectorAll('input')]}));
  const raters = rater.options.map(option => option.value), votes = {};
  let place = 0;
  const key = (who, {name}, at) => [who, name, at].join();
  const chosen = ({options}) => options.find(option => option.checked).value;
  const count = (question, both) => frames.pairs.filter((_, at) =>
    raters.map(who => votes[key(who, question, at)]).join(' ') === both).length;

  function show() {
    put(pair, frames.pairs[place]);
    questions.forEach((question, i) => {
      const vote = votes[key(chosen(rater), question, place)] ?? 'not yet';
      question.options.forEach(option => { option.checked = option.value === vote; });
      const counts = ['yes yes', 'yes no', 'no yes', 'no no'].map(both => count(question, both));
      put(agreements[i], frames[question.name].pictures[frames[question.name].place[counts]]);
    });
  }

  rater.options.forEach(option => { option.onchange = show; });
  for (const question of questions) {
    const keep = () => { votes[key(chosen(rater), question, place)] = chosen(question); show(); };
    question.options.forEach(option => { option.onchange = keep; });
  }
  demo.querySelectorAll('[data-by]').forEach(button => {
    const by = +button.dataset.by, n = frames.pairs.length;
    button.onclick = () => { place = (place + by + n) % n; show(); };
  });
  demo.querySelectorAll('.controls').forEach(part => { part.hidden = false; });
  show();
}

// --------------------------------------------------------------------------------------- search
// search_index.js sets window.sections: [[lab, heading, address, text], ...]; loaded when needed
function searching(box, found) {
  let loaded = null;
  const load = () => loaded ??= new Promise(done => {
    const script = document.createElement('script');
    script.src = 'search_index.js';
    script.onload = done;
    document.head.append(script);
  });
  const result = ([lab, heading, address]) => {
    const item = document.createElement('li'), link = document.createElement('a');
    link.href = address;
    link.textContent = heading === lab ? lab : `${lab}: ${heading}`;
    item.append(link);
    return item;
  };
  box.addEventListener('focus', load);
  box.addEventListener('input', async () => {
    await load();
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const within = text => words.every(word => text.toLowerCase().includes(word));
    const hits = words.length ? window.sections.filter(section => within(section.join(' '))) : [];
    hits.sort((a, b) => within(b[1]) - within(a[1]));  // those with the words in their heading first
    found.querySelector('p').textContent = words.length ? `${hits.length} sections found` : '';
    found.querySelector('ul').replaceChildren(...hits.slice(0, 12).map(result));
  });
}

document.querySelectorAll('.demo.live').forEach(demo =>
  (demo.id === 'votes' ? startVotes : start)(demo).catch(console.warn));
searching(document.querySelector('[type=search]'), document.querySelector('.found'));
if (innerWidth >= 1200) document.querySelectorAll('aside details').forEach(list => { list.open = true; });
