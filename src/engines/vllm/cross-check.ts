/** What a server lists of the routes that its version has. */
import type { Selection } from '../vllm-native/dialects.js';

/** Routes that a capability needs; without one of them the capability is absent, whatever the version says. */
const ROUTES = {
  admin: ['/pause', '/resume', '/is_paused', '/get_world_size', '/collective_rpc', '/reset_prefix_cache'],
  transfer: ['/init_weight_transfer_engine', '/update_weights'],
  rounds: ['/start_weight_update', '/finish_weight_update'],
  weightVersion: ['/weight_info', '/update_weight_version'],
  weightChecker: ['/weight_checker'],
  shutdownTransfer: ['/shutdown_weight_transfer_engine'],
} as const;

/** True when none of the admin routes is there: the server was started without development mode. */
export function lacksAdminRoutes(routes: ReadonlySet<string>): boolean {
  return !ROUTES.admin.some((route) => routes.has(route));
}

/** vLLM's own /update_weights comes with development mode, which a prime-rl server must not have. */
export function isPrimeRls(routes: ReadonlySet<string>): boolean {
  return routes.has('/update_weights') && !routes.has('/collective_rpc');
}

/** Holds a dialect against the routes that the server lists; what is missing is taken away and noted. */
export function crossCheck(selection: Selection, routes: ReadonlySet<string>): Selection {
  const { capabilities } = selection.dialect;
  const notes = [...selection.notes];
  const missing = (needed: readonly string[]) => needed.filter((route) => !routes.has(route));
  const kept = (on: boolean, needed: readonly string[]) => {
    const gone = on ? missing(needed) : [];
    if (gone.length > 0) notes.push(`the server does not list ${gone.join(', ')}, which its version has`);
    return on && gone.length === 0;
  };
  kept(true, ROUTES.admin);
  const threeStep = capabilities.rounds === 'three-step';
  const transfer = kept(true, threeStep ? [...ROUTES.transfer, ...ROUTES.rounds] : ROUTES.transfer);
  // A build between two releases: which bodies it takes can't be known, and trying would have effects.
  const contradiction = !threeStep && routes.has(ROUTES.rounds[0]);
  if (contradiction) notes.push(`the server lists ${ROUTES.rounds[0]}, which its version does not have`);
  return {
    notes: transfer && !contradiction ? notes : [...notes, 'it can be updated by files only'],
    dialect: {
      ...selection.dialect,
      capabilities: {
        ...capabilities,
        wire: transfer && !contradiction ? 'vllm' : null,
        weightVersion: kept(capabilities.weightVersion, ROUTES.weightVersion),
        weightChecker: kept(capabilities.weightChecker, ROUTES.weightChecker),
        shutdownTransfer: kept(capabilities.shutdownTransfer, ROUTES.shutdownTransfer),
      },
    },
  };
}
