/** An update's report as text for people. */
import type { EngineReport, ErrorReport, UpdateReport } from '../update/types.js';
import { count, duration, paint, printable, rate, size } from './format.js';
import { touched } from './outcome.js';

export const EMULATED = 'EMULATED: no GPU, no NCCL; numbers say nothing about a GPU';

/** Several lines, each ended by a newline. */
export function renderReport(report: UpdateReport, color: boolean): string {
  const lines = [headline(report, color)];
  lines.push(`  weights   ${weights(report)}`);
  if (report.weights.digest !== null) lines.push(`  digest    sha256 ${report.weights.digest}`);
  if (report.delta !== null) lines.push(`  delta     ${delta(report.delta)}`);
  if (report.transfer !== null) lines.push(`  transfer  ${transfer(report.transfer)}`);
  if (report.nccl !== null) lines.push(`  nccl      ${nccl(report.nccl)}`);
  if (report.memory !== null) {
    lines.push(`  staging   ${size(report.memory.device)} device, ${size(report.memory.pinned)} pinned`);
  }
  lines.push(`  pause     ${pause(report)}`);
  for (const engine of report.engines) lines.push(...engineLines(engine, report.error, color));
  for (const note of report.notes) lines.push(`  note: ${printable(note)}`);
  if (report.error !== null) lines.push(...errorLines(report.error, color));
  if (report.emulated) lines.push(paint(color, 'yellow', EMULATED));
  return `${lines.join('\n')}\n`;
}

/** 'error: message [WC_CODE]' and, where known, the engine, the phase and the remedy. */
export function errorLines(error: ErrorReport, color: boolean): string[] {
  // The code belongs to what went wrong, not to the last line of what was tried.
  const [what = '', ...more] = printable(error.message).split('\n');
  const lines = [`${paint(color, 'red', 'error:')} ${what} [${error.code}]`, ...more];
  if (error.engine !== null) lines.push(`  engine: ${printable(error.engine)}`);
  if (error.phase !== null) lines.push(`  phase:  ${printable(error.phase)}`);
  if (error.remedy !== null) lines.push(`  remedy: ${printable(error.remedy)}`);
  return lines;
}

function headline(report: UpdateReport, color: boolean): string {
  const total = report.engines.length;
  const inState = (state: string) => report.engines.filter((engine) => engine.state === state).length;
  const version = report.version === null ? '' : ` to version ${printable(report.version)}`;
  const elapsed = duration(report.phases.reduce((sum, phase) => sum + phase.ms, 0));
  switch (report.outcome) {
    case 'updated':
      return `${paint(color, 'green', 'updated')}${version} in ${elapsed}: ${count(total, 'engine')}`;
    case 'failed':
      return `${paint(color, 'red', 'failed')} after ${elapsed}: ${whoServesOld(report)}`;
    case 'quarantined':
      return `${paint(color, 'red', 'quarantined')} ${inState('quarantined')} of ${count(total, 'engine')}, which stay paused; ${inState('serving-new')} updated${version}`;
  }
}

function whoServesOld(report: UpdateReport): string {
  const old = report.engines.filter(({ state }) => state === 'serving-old').length;
  // An update may end before it has learnt what an engine serves.
  if (old === 0 && !touched(report)) return 'no engine was changed';
  return `${old} of ${count(report.engines.length, 'engine')} ${old === 1 ? 'serves' : 'serve'} the old version`;
}

function weights({ weights: what }: UpdateReport): string {
  const path = printable(what.path);
  if (what.tensors === 0) return path;
  return `${path} (${count(what.tensors, 'tensor')}, ${size(what.bytes)}, ${count(what.files, 'file')})`;
}

function delta(sent: NonNullable<UpdateReport['delta']>): string {
  const share = sent.ofElements === 0 ? 0 : (100 * sent.elements) / sent.ofElements;
  const changed = `${share.toPrecision(2)} % of the elements changed, in ${count(sent.tensors, 'tensor')}`;
  return `from ${printable(sent.base)}: ${changed}; ${size(sent.bytes)} instead of ${size(sent.denseBytes)}`;
}

function pause({ pauseMs, engines }: UpdateReport): string {
  if (pauseMs !== null) return duration(pauseMs);
  const paused = engines.some(({ history }) => history.some(({ state }) => state === 'paused'));
  return paused ? 'not over: see the engines' : 'nobody was paused';
}

function transfer(t: NonNullable<UpdateReport['transfer']>): string {
  if (t.bytes === 0) return `nothing was sent by ${t.transport}`;
  const sent = `${size(t.bytes)} by ${t.transport} in ${duration(t.elapsedMs)}, ${rate(t.bytesPerSecond)}`;
  if (t.transport === 'filesystem') return sent;
  const busy = `busy: read ${duration(t.readMs)}, copy ${duration(t.copyMs)}, broadcast ${duration(t.broadcastMs)}`;
  return `${sent} (${count(t.frames, 'frame')}; ${busy})`;
}

function nccl(group: NonNullable<UpdateReport['nccl']>): string {
  const reused = group.reused ? ', communicator kept from the update before' : '';
  const wires = group.groups.map(({ wire, worldSize }) => `${worldSize} of ${wire}`);
  const groups = wires.length > 1 ? ` in ${wires.length} groups (${wires.join(', ')})` : '';
  return `${ncclVersion(group.version)}, ${group.worldSize} ranks${groups}${reused}, ${printable(group.library)}`;
}

/** '2.28.3' of 22803, as ncclGetVersion numbers releases since 2.9. */
export function ncclVersion(version: number): string {
  return `${Math.floor(version / 10_000)}.${Math.floor((version % 10_000) / 100)}.${version % 100}`;
}

export function engineLines(engine: EngineReport, shown: ErrorReport | null, color: boolean): string[] {
  const facts: string[] = [engine.state];
  if (engine.weightVersion !== null) facts.push(`says version ${printable(engine.weightVersion)}`);
  if (engine.transport !== null) facts.push(`by ${engine.transport}`);
  if (engine.workers !== null) facts.push(count(engine.workers, 'worker'));
  facts.push(`${engine.backend} ${engine.engineVersion ?? '(version unknown)'}`);
  if (engine.pausedMs !== null) facts.push(`paused ${duration(engine.pausedMs)}`);
  const style = { 'serving-new': 'green', quarantined: 'red' }[engine.state as string] as 'green' | undefined;
  const id = style === undefined ? engine.id : paint(color, style, printable(engine.id));
  const lines = [`  engine    ${id}: ${facts.map((fact) => printable(fact)).join(', ')}`];
  if (engine.proof !== null) lines.push(...proofLines(engine.proof).map((line) => `            ${line}`));
  lines.push(...reasonLines(engine, shown, color).map((line) => `            ${line}`));
  return lines;
}

/** Why an engine is, or was, out of the fleet. What ended the whole update is told once, below; so is an interruption. */
function reasonLines(engine: EngineReport, shown: ErrorReport | null, color: boolean): string[] {
  const { error, history } = engine;
  if (engine.state === 'serving-new') {
    const past = history.find(({ state, reason }) => state === 'quarantined' && reason !== null);
    return past === undefined ? [] : [`healed: ${printable(past.reason ?? '')}`];
  }
  const told =
    error === null ||
    error.message === shown?.message ||
    (error.code === 'WC_UPDATE_ABORTED' && shown?.code === 'WC_UPDATE_ABORTED');
  const below = told ? [] : errorLines({ ...error, engine: null }, color);
  const reason = history.at(-1)?.reason ?? null;
  if (engine.state !== 'quarantined' || reason === null || below[0]?.includes(printable(reason)))
    return below;
  return [`why: ${printable(reason)}`, ...below];
}

function proofLines(proof: NonNullable<EngineReport['proof']>): string[] {
  const lines: string[] = [];
  const took = proof.engineMs > 0 ? `, the engine hashed for ${duration(proof.engineMs)}` : '';
  if (proof.method === 'digest')
    lines.push(`proof: digest, ${proof.proved} of ${proof.total} parameters${took}`);
  else if (proof.method === 'fingerprint')
    lines.push(`proof: fingerprint, ${printable(proof.note ?? 'the fleet scores a fixed prompt alike')}`);
  else lines.push('proof: none');
  if (proof.mismatched.length > 0) lines.push(`MISMATCH: ${some(proof.mismatched)}`);
  if (proof.unprovable.length > 0) {
    const reasons = new Set(proof.unprovable.map((entry) => entry.reason));
    lines.push(
      `not provable: ${some(proof.unprovable.map((entry) => entry.parameter))} (${some([...reasons])})`,
    );
  }
  if (proof.note !== null && proof.method !== 'fingerprint') lines.push(printable(proof.note));
  return lines;
}

/** The first few of a list that may have thousands. */
function some(items: readonly string[]): string {
  const shown = items.slice(0, 3).map((item) => printable(item, 200));
  return items.length > 3 ? `${shown.join(', ')} and ${items.length - 3} more` : shown.join(', ');
}
