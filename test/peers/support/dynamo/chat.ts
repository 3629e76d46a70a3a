/** Requests through a real frontend that are still running when something else happens. */
import { expect } from 'vitest';
import type { Frontend } from './frontend.js';

export interface Chat {
  readonly tokens: number;
  /** Default 'tiny'. */
  readonly model?: string;
}

export interface ChatEnd {
  readonly reason: string | undefined;
  readonly tokens: number;
}

/** Starts a chat, and returns when its first token has come. */
export async function chatInFlight(
  frontend: Frontend,
  { tokens, model = 'tiny' }: Chat,
): Promise<{ readonly answer: Promise<ChatEnd> }> {
  const reply = await fetch(`${frontend.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content: 'w5 w6 w7' }],
      max_tokens: tokens,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
    signal: AbortSignal.timeout(120_000),
  });
  expect(reply.status).toBe(200);
  const reader = reply.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader.read()).value ?? '';
  const rest = async (): Promise<ChatEnd> => {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) text += chunk.value;
    return {
      reason: /"finish_reason":"(\w+)"/.exec(text)?.[1],
      tokens: Number(/"completion_tokens":(\d+)/.exec(text)?.[1]),
    };
  };
  return { answer: rest() };
}
