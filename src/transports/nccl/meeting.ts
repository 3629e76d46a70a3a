/** Where groups that are built together wait for one another. */

export interface Meeting {
  /** Resolves when all have come. @throws what it was called off with */
  arrive(): Promise<void>;
  /** Those who wait, and those who still come, are turned away. */
  callOff(reason: unknown): void;
}

export function meetingOf(groups: number): Meeting {
  let missing = groups;
  let callOff: (reason: unknown) => void = () => undefined;
  let open: () => void = () => undefined;
  const all = new Promise<void>((resolve, reject) => {
    open = resolve;
    callOff = reject;
  });
  // Nobody may have come when it is called off.
  all.catch(() => undefined);
  return {
    arrive: () => {
      missing -= 1;
      if (missing === 0) open();
      return all;
    },
    callOff,
  };
}
