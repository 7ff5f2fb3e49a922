// Starts a real local network (`nesa up`) in a fresh folder and stops it again.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, readFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
export const root = resolve(here, '../../..');

/** The binary under test: $NESA, else the one the native profile built. */
export function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
  const path = process.env.NESA ?? join(target, 'local', 'nesa');
  if (!existsSync(path)) throw new Error(`no nesa binary at ${path}; run: cargo xtask test --only browser`);
  return path;
}

/**
 * Starts a network and resolves once it printed its READY line.
 * @param {{scenario?: string, dir?: string, args?: string[], readySeconds?: number}} options
 */
export async function up({ scenario, dir, args = [], readySeconds = 120 } = {}) {
  const kept = dir !== undefined;
  dir ??= await mkdtemp(join(tmpdir(), 'nesa-e2e-'));
  const argv = ['up', '--dir', dir, '--port', '0', ...(scenario ? ['--scenario', scenario] : []), ...args];
  const child = spawn(binary(), argv, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NESA_HOME: join(dir, 'home'), RUST_BACKTRACE: '1' },
  });
  let errors = '';
  child.stderr.on('data', (d) => { errors = (errors + d).slice(-8000); });
  const exited = new Promise((done) => child.once('exit', (code, signal) => done({ code, signal })));
  const ready = await new Promise((done, fail) => {
    let out = '';
    const timer = setTimeout(() => fail(new Error(`not READY after ${readySeconds} s\n${errors}`)), readySeconds * 1000);
    child.stdout.on('data', (d) => {
      out += d;
      const line = out.split('\n').find((l) => l.startsWith('READY '));
      if (line) { clearTimeout(timer); done(JSON.parse(line.slice(6))); }
    });
    exited.then(({ code, signal }) => { clearTimeout(timer); fail(new Error(`nesa up ended early (${code ?? signal})\n${errors}`)); });
  }).catch(async (e) => { child.kill('SIGKILL'); if (!kept) await rm(dir, { recursive: true, force: true }); throw e; });
  return {
    ...ready, dir, child,
    errors: () => errors,
    /** Process id of the compute node with key `node`; undefined while it is down. */
    async pid(node) {
      const { nodes } = JSON.parse(await readFile(join(dir, 'network.json'), 'utf8'));
      const pids = JSON.parse(await readFile(join(dir, 'run.json'), 'utf8'));
      return pids[nodes.find((n) => n.node === node).name];
    },
    /** Graceful stop; fails if a process of the network is left behind. */
    async down({ keep = kept } = {}) {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
      const end = await exited;
      clearTimeout(timer);
      if (!keep) await rm(dir, { recursive: true, force: true });
      return end;
    },
    /** kill -9 of the supervisor and every child, as a power cut would. */
    async cut() {
      const pids = await children(child.pid);
      for (const pid of [child.pid, ...pids]) { try { process.kill(pid, 'SIGKILL'); } catch { /* already gone */ } }
      return exited;
    },
  };
}

/** Process ids below `pid`, at any depth. */
export async function children(pid) {
  const own = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')).trim();
  const direct = own === '' ? [] : own.split(' ').map(Number);
  const below = await Promise.all(direct.map(children));
  return [...direct, ...below.flat()];
}
