// The page's worker without the page: what a test sends it, and the last it said of each kind.
import { open } from './browser.mjs';
import { until } from './wait.mjs';

/** Starts the worker of `network` in a profile of its own, on an address of its origin that is not the page. */
export async function worker(browser, network) {
  const page = await open(browser, new URL('/v1/status', network.playground).href);
  await page.evaluate(async () => {
    const html = await (await fetch('/')).text();
    const [name] = html.match(/node-worker-[0-9a-f]+\.js/);
    globalThis.seen = { jobs: {}, failed: [] };
    globalThis.node = new Worker(`/${name}`, { type: 'module' });
    globalThis.node.onmessage = ({ data: [json] }) => {
      const message = JSON.parse(json);
      if (message.t === 'job') globalThis.seen.jobs[message.job.id] = message.job;
      else if (message.t === 'failed') globalThis.seen.failed.push(message);
      else globalThis.seen[message.t] = message;
    };
    globalThis.node.postMessage([JSON.stringify({ t: 'start', origin: location.origin, build: 'test' })]);
  });
  const send = (message) => page.evaluate((json) => globalThis.node.postMessage([json, undefined]), JSON.stringify(message));
  const see = (look, with_) => page.evaluate(`(${look})(globalThis.seen, ${JSON.stringify(with_ ?? null)})`);
  await until(() => see((seen) => seen.status?.status.network.phase === 'live'), 90, 'the network');
  await send({ t: 'wallet', command: { c: 'create', passphrase: null } });
  await until(() => see((seen) => seen.wallet?.wallet.state === 'ready'), 60, 'a wallet');
  await send({ t: 'wallet', command: { c: 'faucet' } });
  await until(() => see((seen) => Number(seen.wallet.wallet.balances[0]?.amount) > 0), 60, 'money');
  await until(() => see((seen) => seen.models?.models.length > 0), 60, 'the models');
  return { page, send, see, close: () => page.context().close() };
}
