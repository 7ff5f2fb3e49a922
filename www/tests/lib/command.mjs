// Runs the nesa command line beside a page.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { binary, root } from './network.mjs';

/** Resolves with {code, out, err}; never throws on a non-zero exit. */
export function nesa(args, { dir, seconds = 120 } = {}) {
  return new Promise((done) => {
    const child = spawn(binary(), args, {
      cwd: root, stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...(dir ? { NESA_HOME: join(dir, 'home') } : {}) },
    });
    let out = '', err = '';
    child.stdout.on('data', (d) => { out += d; });
    child.stderr.on('data', (d) => { err += d; });
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    child.once('exit', (code) => { clearTimeout(timer); done({ code, out, err }); });
  });
}
