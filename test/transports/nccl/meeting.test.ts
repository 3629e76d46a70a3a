import { expect, it } from 'vitest';
import { meetingOf } from '../../../src/transports/nccl/meeting.js';

it('keeps everybody until the last one comes', async () => {
  const { arrive } = meetingOf(2);
  let passed = false;
  const first = arrive().then(() => {
    passed = true;
  });
  await Promise.resolve();
  expect(passed).toBe(false);
  await arrive();
  await first;
});

it('turns away those who wait and those who still come when it is called off', async () => {
  const { arrive, callOff } = meetingOf(2);
  const first = arrive();
  callOff(new Error('one was given up'));
  await expect(first).rejects.toThrow('one was given up');
  await expect(arrive()).rejects.toThrow('one was given up');
});
