// What a user does in the Playground, once; the tests read what the page shows.
import { expectPhase } from './wait.mjs';

export const hook = (name) => `[data-test="${name}"]`;

/** The secret a document contains: it must never be seen outside the page. */
export const SECRET = 'the blue heron passphrase is marmalade-7781';

export const DOCUMENTS = [
  `Keys and codes. In case of emergency, ${SECRET}, and the spare key lies under the third flowerpot.`,
  'Insurance. The household policy covers water damage up to twelve thousand, with two hundred deductible, and is renewed each March.',
  'Garden. Prune the apple trees in late February, before the buds swell; the pears can wait until the frost has gone.',
].join('\n\n');

/** Waits until the page can ask. */
export const ready = (page, seconds = 120) => expectPhase(page, 'ready', seconds);

/** Types documents and a question and presses Ask. */
export async function ask(page, question, documents = DOCUMENTS) {
  if (documents) await page.locator(hook('docs-input')).fill(documents);
  await page.locator(hook('question')).fill(question);
  await page.locator(hook('ask')).click();
}

/** Waits until the newest answer is in one of the states; returns the state. */
export async function settled(page, states = ['done', 'failed', 'cancelled'], seconds = 120) {
  const answer = page.locator(hook('answer')).last();
  const wanted = states.map((s) => `[data-test="answer"][data-state="${s}"]`).join(', ');
  await page.locator(wanted).last().waitFor({ timeout: seconds * 1000 });
  return answer.getAttribute('data-state');
}

/** The ladder as {step: state}. */
export const ladder = (page) => page.locator(hook('rung')).evaluateAll((rungs) =>
  Object.fromEntries(rungs.map((r) => [r.dataset.step, r.dataset.state])));

/** What a rung rests on; waits until it has something to show. */
export async function evidence(page, step) {
  const text = page.locator(`[data-test="rung"][data-step="${step}"] .evidence`);
  await text.waitFor({ state: 'attached', timeout: 60_000 });
  return JSON.parse(await text.textContent());
}

/** Ranked passages, best first. */
export const results = (page) => page.locator(hook('result')).allInnerTexts();
