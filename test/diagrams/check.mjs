// Holds diagrams against the real Mermaid, PlantUML and Graphviz.
//
//   node check.mjs DIAGRAMS FOLDER [DOCUMENT...]
//
// DIAGRAMS is what draw.sql gives, FOLDER a place to leave what failed.  What
// the real parsers find must be what the machine has.  They must also accept
// the definitions that the documents show, between $$ or in a block of code.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [file, folder, ...documents] = process.argv.slice(2);
const drawn = readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
let passed = 0;
let failed = 0;

function verdict(what, problem, text) {
	if (!problem) {
		passed++;
		return;
	}
	failed++;
	const name = `${folder}/${what.replace(/[^\w]+/g, '_')}.txt`;
	writeFileSync(name, text);
	console.log(`FAIL  ${what}: ${problem}\n      see ${name}`);
}

// ---- what the machine has --------------------------------------------------

const MARKS = { hard: '!', soft: '?' };
const bare = (text) => text.replace(/\s+/g, '');

function label(t) {
	return t.event + (MARKS[t.kind] ?? '') + (t.guard === null ? '' : ` [${t.guard}]`) + (t.action === null ? '' : ` / ${t.action}`);
}

// [from, to, label] of each transition that a diagram shows; blanks do not count
function edges(model) {
	return model.transitions.map((t) => [t.from_state, t.to_state, bare(/^__(start|end)__$/.test(t.event) ? '' : label(t))]);
}

function compare(what, found, wanted) {
	for (let i = 0; i < Math.max(found.length, wanted.length); i++) {
		if (JSON.stringify(found[i]) !== JSON.stringify(wanted[i]))
			return `${what} ${i}: ${JSON.stringify(found[i])} instead of ${JSON.stringify(wanted[i])}`;
	}
	return null;
}

// ---- Mermaid ---------------------------------------------------------------

// the browser's part of it: character codes, as Mermaid marks them, and HTML
function makeDecoder(document) {
	const element = document.createElement('textarea');
	return (text) => {
		element.innerHTML = text.replace(/ﬂ°°/g, '&#').replace(/ﬂ°/g, '&').replace(/¶ß/g, ';').replace(/<(?![!/a-z])/gi, '&lt;');
		return element.value;
	};
}

async function loadMermaid() {
	const require = createRequire(`${process.cwd()}/`);
	const { JSDOM } = require('jsdom');
	const dom = new JSDOM('<!DOCTYPE html><body></body>');
	globalThis.window = dom.window;
	globalThis.document = dom.window.document;
	const { default: mermaid } = await import(pathToFileURL(require.resolve('mermaid')).href);
	mermaid.initialize({ startOnLoad: false, maxTextSize: 1e9, maxEdges: 1e9 });
	return { mermaid, decode: makeDecoder(dom.window.document) };
}

function flowchart(db, decode) {
	const names = new Map([...db.getVertices()].map(([id, vertex]) => [id, decode(vertex.text ?? id)]));
	return {
		states: [...names.values()],
		edges: db.getEdges().map((e) => [names.get(e.start), names.get(e.end), bare(decode(e.text))]),
		actions: [],
	};
}

function stateDiagram(db, decode) {
	const names = new Map();
	const actions = [];
	for (const [id, state] of db.getStates()) {
		if (/^root_(start|end)$/.test(id))	// [*]; a state is never called so
			continue;
		const texts = (state.descriptions ?? []).map(decode);
		names.set(id, texts.length > 0 && !/^(entry|exit) \//.test(texts[0]) ? texts.shift() : id);
		actions.push(...texts.map((text) => [names.get(id), bare(text)]));
	}
	return {
		states: [...names.values()],
		edges: db.getRelations().map((r) => [names.get(r.id1) ?? '*', names.get(r.id2) ?? '*', bare(decode(r.relationTitle ?? ''))]),
		actions,
	};
}

function difference(found, model, suffix) {
	const title = (name) => (name === '*' ? '*' : name + suffix);
	const isFlowchart = found.flowchart;
	const wanted = edges(model).filter((e) => !isFlowchart || e[2] !== '');
	const actions = (model.states ?? []).flatMap((s) => [['entry', s.entry_action], ['exit', s.exit_action]]
		.filter(([, action]) => action !== null).map(([when, action]) => [title(s.state), bare(`${when} / ${action}`)]));
	return compare('state', [...found.states].sort(), (model.states ?? []).map((s) => title(s.state)).sort()) ??
		compare('transition', found.edges, wanted.map(([from, to, text]) => [title(from), title(to), text])) ??
		compare('action', found.actions.sort(), actions.sort());
}

async function checkMermaid(name, text, model, suffix) {
	let problem;
	try {
		const { db } = await mermaid.mermaidAPI.getDiagramFromText(text);
		const isFlowchart = text.startsWith('flowchart');
		const found = isFlowchart ? flowchart(db, decode) : stateDiagram(db, decode);
		problem = difference({ ...found, flowchart: isFlowchart }, model, suffix);
	} catch (error) {
		problem = String(error.message).slice(0, 300);
	}
	verdict(`Mermaid, ${name}`, problem, text);
}

// ---- PlantUML --------------------------------------------------------------

const unescapeXml = (text) => text.replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(code)).replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&quot;/g, '"').replace(/&apos;/g, "'").replace(/&amp;/g, '&');
const decodePlantuml = (text) => text.replace(/<U\+([0-9A-F]{4})>/g, (_, code) => String.fromCharCode(parseInt(code, 16)));

// Its own model, as it exports it.  Of a label of several lines it exports the first only.
function plantumlEdges(scxml) {
	return [...scxml.matchAll(/<transition(?: event="([^"]*)")?[^>]*>/g)].map((m) => bare(decodePlantuml(unescapeXml(m[1] ?? ''))));
}

function plantuml(args, input) {
	return spawnSync('plantuml', ['-charset', 'UTF-8', ...args], { input, encoding: 'utf8', maxBuffer: 1 << 28 }).stdout;
}

// what it says of each of several diagrams
function plantumlAnswers(texts) {
	return plantuml(['-syntax'], texts.join('')).match(/^(ERROR\n\d+\n.*|[A-Z]+\n\(.*\))$/gm) ?? [];
}

function checkPlantuml() {
	const answers = plantumlAnswers(drawn.map((d) => d.plantuml));
	const xml = `${folder}/scxml`;
	rmSync(xml, { recursive: true, force: true });
	mkdirSync(xml);
	drawn.forEach((d, i) => { if (answers[i]?.startsWith('STATE')) writeFileSync(`${xml}/${i}.puml`, d.plantuml); });
	plantuml(['-tscxml', ...readdirSync(xml).map((f) => `${xml}/${f}`)]);
	drawn.forEach((d, i) => {
		let problem = answers[i]?.startsWith('STATE') ? null : (answers[i] ?? 'no answer').replace(/\n/g, ' ');
		if (problem === null) {
			const found = plantumlEdges(readFileSync(`${xml}/${i}.scxml`, 'utf8')).sort();
			const wanted = d.plantuml.split('\n').filter((l) => / --> /.test(l) && !/^ *\S+ : /.test(l))
				.map((l) => bare(decodePlantuml((l.match(/^ *\S+ --> \S+ : (.*)/)?.[1] ?? '').replace(/\\n.*/, '')))).sort();
			problem = compare('transition', found, wanted);
		}
		verdict(`PlantUML, ${d.name}`, problem, d.plantuml);
	});
}

// ---- Graphviz --------------------------------------------------------------

function checkDot(name, text, model) {
	const { stdout, stderr, status } = spawnSync('dot', ['-Tdot_json'], { input: text, encoding: 'utf8', maxBuffer: 1 << 28 });
	let problem = status === 0 && stderr === '' ? null : stderr.slice(0, 300);
	if (problem === null) {
		const graph = JSON.parse(stdout);
		const id = new Map(graph.objects.map((o) => [o._gvid, o.name]));
		const unquote = (label) => bare(label.replace(/\\(.)/g, '$1').replace(/&amp;/g, '&'));
		const found = (graph.edges ?? []).map((e) => [id.get(e.tail), id.get(e.head), unquote(e.label ?? '')]);
		problem = compare('transition', found.sort(), edges(model).filter((e) => e[1] !== '*' || e[2] !== '').sort());
	}
	verdict(`Graphviz, ${name}`, problem, text);
}

// ---- what the documents show ------------------------------------------------

async function checkDocument(document) {
	const text = readFileSync(document, 'utf8');
	const shown = [...text.matchAll(/\$(\w*)\$\s*\n?((?:flowchart|graph|stateDiagram|@startuml)[\s\S]*?)\$\1\$|^```(?:mermaid|plantuml)\n([\s\S]*?)^```/gm)]
		.map((m) => m[2] ?? m[3]);
	for (const [i, definition] of shown.entries()) {
		let problem = null;
		if (definition.startsWith('@startuml')) {
			const [answer] = plantumlAnswers([definition]);
			problem = answer?.startsWith('STATE') ? null : answer ?? 'no answer';
		} else {
			await mermaid.parse(definition).catch((error) => { problem = error.message; });
		}
		verdict(`${document}, definition ${i + 1}`, problem, definition);
	}
}

// ---- all of it -------------------------------------------------------------

const { mermaid, decode } = await loadMermaid();
for (const d of drawn) {
	for (const format of Object.keys(d.same))
		verdict(`read in again, ${format}, ${d.name}`, d.same[format] ? null : 'another machine', d[format]);
	await checkMermaid(d.name, d.mermaid, d.model, '');
	await checkMermaid(`${d.name}, with counts`, d.counted, d.model, ' (7)');
	checkDot(d.name, d.dot, d.model);
}
checkPlantuml();
for (const document of documents)
	await checkDocument(document);
console.log(`${drawn.length} machines: ${passed} passed, ${failed} failed`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
