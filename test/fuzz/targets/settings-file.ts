import { fleetOptions, parseSettings } from '../../../src/config.js';
import { type FuzzTarget, text, valueOrRefusal } from './target.js';

const FILE = `
transport = "nccl"
fallback = "filesystem"
packed_buffer_bytes = "256MiB"
master_port = 0
weight_version = "7"
headers = { "x-a" = "b" }
headers_from_env = { authorization = "TOKEN" }

[[engine]]
url = "http://gpu-1:8000"
api_key_env = "TOKEN"

[timeouts]
update = 600.5
`;

export const settingsFile: FuzzTarget = {
  name: 'settings-file',
  seeds: () => [
    text(FILE),
    text('engine = ["vllm=http://a:1", "https://[::1]:2/x"]\nverify = "auto"\nclear_cache = true\n'),
    text(
      'a.b.c = 1979-05-27T07:32:00Z\n"\\u00e9" = [[1, 2.5e3, inf, -nan, 0xff, 1_000], """x"""]\nengin = 1\n',
    ),
    text('__proto__ = 1\n[constructor]\nprototype = {}\n'),
  ],
  run: (input) => {
    const file = new TextDecoder().decode(input);
    const settings = valueOrRefusal(() => parseSettings(file, '/f.toml'), 'WC_CONFIG_INVALID');
    if (settings !== null) valueOrRefusal(() => fleetOptions(settings, { TOKEN: 't' }), 'WC_CONFIG_INVALID');
  },
};
