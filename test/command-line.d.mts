interface NumberOption {
  readonly text: string;
  /** When it is not given; null: undefined then. */
  readonly number: number | null;
}

interface TextOption {
  readonly text: string;
  /** What stands for it in the help. */
  readonly value: string;
  readonly preset?: string;
  /** It may be given several times. */
  readonly many?: true;
}

interface Flag {
  readonly text: string;
}

export type Option = NumberOption | TextOption | Flag;

type ValueOf<T> = T extends { readonly number: infer Preset }
  ? Preset extends null
    ? number | undefined
    : number
  : T extends { readonly many: true }
    ? readonly string[] | undefined
    : T extends { readonly preset: string }
      ? string
      : T extends { readonly value: string }
        ? string | undefined
        : boolean;

export interface CommandLine<Options> {
  readonly values: { readonly [Name in keyof Options]: ValueOf<Options[Name]> };
  readonly operands: readonly string[];
}

/** Reads the arguments of `npm run <command>`. Ends the process after `--help` (0), and with one line where they are wrong (2). */
export function commandLine<const Options extends Readonly<Record<string, Option>>>(
  command: string,
  usage: {
    readonly about: string;
    /** What stands for them in the help; without it there are none. */
    readonly operands?: string;
    readonly options: Options;
  },
): CommandLine<Options>;

/** Ends the process with one line for whoever typed it wrong. */
export function wrongUsage(message: string): never;
