/** Every trap that contracts/nccl.md measured (sections 2, 4, 7, 8), and the tests that hold the emulator and the addon against it. */
export interface Trap {
  readonly section: string;
  readonly trap: string;
  /** The emulator does as the real library did. */
  readonly emulator: readonly TestName[];
  /** The addon survives it, as a user sees it; empty where the addon has no part in it. */
  readonly addon: readonly TestName[];
}

/** A file below the repository root, and a name, or the beginning of one, as it stands there. */
export type TestName = readonly [file: string, name: string];

const life = (name: string): TestName => ['native/test/emulator_life_test.cc', name];
const traps = (name: string): TestName => ['native/test/emulator_traps_test.cc', name];
const data = (name: string): TestName => ['native/test/emulator_data_test.cc', name];
const cuda = (name: string): TestName => ['native/test/emulator_cuda_test.cc', name];
const peers = (name: string): TestName => ['test/native/traps-peers.test.ts', name];
const hangs = (name: string): TestName => ['test/native/traps-hang.test.ts', name];
const files = (name: string): TestName => ['test/native/traps-libraries.test.ts', name];
const loader = (name: string): TestName => ['test/native/loader.test.ts', name];
const communicator = (name: string): TestName => ['test/native/communicator.test.ts', name];
const transfer = (name: string): TestName => ['test/native/transfer.test.ts', name];
const core = (file: string, name: string): TestName => [`native/test/core_${file}_test.cc`, name];
const exits: TestName = ['test/native/exits.test.ts', 'ends by itself'];

export const TRAPS: readonly Trap[] = [
  {
    section: '1.1',
    trap: 'ranks of different versions refuse each other with 5',
    emulator: [life('ranks_of_different_versions_refuse_each_other')],
    addon: [peers('runs another NCCL version is refused')],
  },
  {
    section: '1.1',
    trap: 'a library that is missing, too old, none at all, or for another processor',
    emulator: [],
    addon: [
      loader('never falls back from an explicit path'),
      loader('refuses an NCCL older than 2.18'),
      files('that is none is refused'),
      files('for another processor is named as such'),
    ],
  },
  {
    section: '1.1',
    trap: 'every name has a pnccl twin',
    emulator: [data('every_public_name_of_nccl_2_32'), traps('every_name_has_a_twin')],
    addon: [],
  },
  {
    section: '1.1',
    trap: 'NCCL_COMM_ID and NCCL_COMM_BLOCKING change what calls mean',
    emulator: [],
    addon: [loader('refuses settings that would make NCCL ignore')],
  },
  {
    section: '1.2',
    trap: 'float8 types before 2.24',
    emulator: [traps('float8_is_a_type_from_2_24_on')],
    addon: [],
  },
  {
    section: '1.3',
    trap: 'a library without a symbol',
    emulator: [],
    addon: [
      files('that lacks any one symbol of NCCL'),
      files('that lacks any one symbol of the CUDA driver'),
    ],
  },
  {
    section: '1.4',
    trap: 'the layout of ncclConfig_t in each version',
    emulator: [life('a_config_is_checked_like_the_real_library_checks_it')],
    // One test for each version.
    addon: [files('of version ')],
  },
  {
    section: '2.1',
    trap: 'a missing peer: init never ends by itself',
    emulator: [
      traps('a_missing_peer_keeps_init_in_progress'),
      life('a_non_blocking_init_waits_for_a_missing_peer'),
    ],
    addon: [
      peers('is missing ends an init at its deadline'),
      communicator('gives up an init at its deadline'),
    ],
  },
  {
    section: '2.1',
    trap: 'a late peer',
    emulator: [traps('a_late_peer_is_waited_for')],
    addon: [peers('comes late is waited for')],
  },
  {
    section: '2.1',
    trap: 'a slow peer',
    emulator: [traps('a_slow_peer_takes_its_time')],
    addon: [peers('is slow gets every byte in its own time')],
  },
  {
    section: '2.1',
    trap: 'nothing is on the stream before the asynchronous state is 0',
    emulator: [cuda('a_non_blocking_broadcast_runs_on_its_stream')],
    addon: [communicator('joins processes, sums over them and broadcasts')],
  },
  {
    section: '2.2',
    trap: 'in blocking mode GetAsyncError is 0 while init is blocked',
    emulator: [life('an_abort_wakes_a_blocked_init')],
    addon: [],
  },
  {
    section: '2.2',
    trap: 'calls while one is in progress give 4, and a refused Finalize overwrites the state',
    emulator: [life('a_non_blocking_init_waits_for_a_missing_peer')],
    addon: [communicator('aborts an init that waits for a peer')],
  },
  {
    section: '2.2',
    trap: 'a peer that dies before a broadcast',
    emulator: [traps('a_sender_that_dies_before_a_broadcast')],
    addon: [peers('dies before a broadcast ends it')],
  },
  {
    section: '2.2',
    trap: 'a peer that dies in a broadcast: 6 at a receiver, nothing at the root',
    emulator: [
      life('a_sender_that_dies_in_a_broadcast'),
      life('a_sender_that_is_killed_is_noticed_within_a_second'),
    ],
    addon: [
      peers('dies in a broadcast that it sends'),
      transfer('ends when a receiver dies in the middle'),
      communicator('ends a receive whose sender was killed'),
    ],
  },
  {
    section: '2.2',
    trap: 'a peer that dies after a broadcast is invisible until the next operation',
    emulator: [life('a_peer_that_dies_idle_is_not_reported'), traps('a_sender_that_dies_after_a_broadcast')],
    addon: [peers('dies after a broadcast is invisible')],
  },
  {
    section: '2.2',
    trap: 'an asynchronous error',
    emulator: [life('an_async_error_can_be_switched_on')],
    addon: [peers('whose asynchronous error shows up')],
  },
  {
    section: '2.3',
    trap: 'a collective has no timeout of its own',
    emulator: [cuda('an_abort_frees_a_stream_that_waits_for_a_peer')],
    addon: [
      communicator('ends a broadcast that nobody receives at its deadline'),
      communicator('aborts a broadcast in flight'),
      transfer('ends at its deadline when nobody receives'),
    ],
  },
  {
    section: '2.3',
    trap: 'a dead root: 6',
    emulator: [life('a_root_that_is_gone_gives_a_remote_error')],
    addon: [peers('was the root and is gone')],
  },
  {
    section: '2.3',
    trap: 'an abort wakes a blocked init, which returns 3',
    emulator: [life('an_abort_wakes_a_blocked_init')],
    addon: [communicator('aborts an init that waits for a peer')],
  },
  {
    section: '2.4',
    trap: 'a destroy with an unfinished operation never returns',
    emulator: [traps('destroy_with_an_unfinished_broadcast_never_returns')],
    addon: [
      peers('is destroyed at its deadline while a broadcast is unfinished'),
      core('communicator', 'an_unfinished_broadcast_is_interrupted_by_the_deadline_of_a_destroy'),
    ],
  },
  {
    section: '2.4',
    trap: 'a second destroy crashes',
    emulator: [traps('a_second_destroy_can_crash_like_the_real_one')],
    addon: [peers('that is destroyed and aborted twice, in any order')],
  },
  {
    section: '2.4',
    trap: 'with an error, Destroy returns it and frees nothing',
    emulator: [life('a_sender_that_dies_in_a_broadcast')],
    addon: [peers('whose asynchronous error shows up')],
  },
  {
    section: '2.4',
    trap: 'an abort that waits for foreign work on the device',
    emulator: [traps('a_call_can_hang')],
    addon: [
      communicator('leaves an abort that hangs behind'),
      hangs('is told beside the timeout that led to it: ncclCommAbort'),
    ],
  },
  {
    section: '2.4',
    trap: 'freeing memory under a stuck collective hangs, as any call of a broken driver',
    emulator: [traps('a_call_can_hang')],
    addon: [
      // One test for each call.
      hangs('at the limit of calls, by its name: '),
      hangs('at its own deadline: '),
      hangs('when its caller has waited long enough: '),
      hangs('ends a transfer at its deadline when it is a copy, not a call'),
      core('hangs', 'a_copy_that_hangs_ends_a_staging_at_its_deadline'),
      core('hangs', 'an_abort_ends_a_write_that_hangs'),
      hangs('does not hold up a destroy that frees memory: cuMemFree'),
      hangs('does not hold up an abort: cuMemFree'),
      hangs('does not hold up the end of the process'),
      core('watch', 'a_call_that_comes_back_after_it_was_given_up_goes_no_further'),
      core('communicator', 'a_free_that_hangs_is_given_up_at_the_call_limit'),
    ],
  },
  {
    section: '2.4, 8.10',
    trap: 'each aborted init leaks three files and a thread: retries are bounded',
    emulator: [
      traps('each_aborted_init_leaks_three_files_and_a_thread'),
      life('aborted_inits_leave_no_threads_and_no_files'),
      life('one_communicator_after_another_leaks_nothing'),
    ],
    addon: [
      peers('whose id is asked for is refused, by a named limit'),
      peers('that all ranks joined does not count'),
      core('communicator', 'ids_that_nobody_joins_are_limited'),
    ],
  },
  {
    section: '2.4',
    trap: "the thread's group depth leaks, and later calls never run",
    emulator: [
      life('without_a_driver_init_fails_and_can_leak_the_group_depth'),
      traps('a_refused_destroy_can_leak_the_group_depth'),
    ],
    addon: [
      core('communicator', 'a_failed_init_leaves_its_thread_outside_of_any_group'),
      files('whose driver is too old for this NCCL'),
    ],
  },
  {
    section: '2.4, 8.4',
    trap: 'an id serves one communicator',
    emulator: [life('an_id_serves_one_communicator')],
    addon: [communicator('works again after a failure, with a fresh unique id')],
  },
  {
    section: '2.5, 8.8',
    trap: 'the process exits while a thread waits in NCCL',
    emulator: [life('a_process_can_exit_while_a_thread_waits_in_init')],
    addon: [exits],
  },
  {
    section: '3.1',
    trap: 'two ranks on one GPU',
    emulator: [cuda('two_ranks_on_one_device_are_refused_when_asked')],
    addon: [peers('sits on the same GPU is refused')],
  },
  {
    section: '4, 8.1',
    trap: 'no driver, no device, a driver too old',
    emulator: [
      cuda('no_device_and_no_driver_are_different_errors'),
      traps('without_a_gpu_the_library_answers_as_measured'),
      traps('a_driver_too_old_for_nccl_works_for_everything_else'),
    ],
    addon: [
      loader('tells a driver that does not work from one that sees no device'),
      files('whose driver is too old for this NCCL'),
    ],
  },
  {
    section: '7',
    trap: 'ranks that disagree on the byte count hang',
    emulator: [life('ranks_that_disagree_on_the_size_hang_until_abort')],
    addon: [peers('expects another number of bytes')],
  },
  {
    section: '7',
    trap: 'out of memory',
    emulator: [traps('a_device_can_be_out_of_memory'), cuda('more_memory_than_the_machine_has_is_refused')],
    addon: [files('that is out of memory says how much')],
  },
];
