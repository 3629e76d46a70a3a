/** What `--help` says beside the options. */

export const DESCRIPTION =
  "Pushes a trainer's new weights into running inference engines, over NCCL or files, without restarting them, " +
  'and proves that every engine serves the bytes that were sent.';

export const EXIT_CODES = `
Exit codes
  0    updated and verified
  1    failed: the fleet serves the old version
  2    wrong usage or configuration
  3    some engine is quarantined: paused, and excluded until a push heals it
  130  interrupted before anything had begun
`;

export const PUSH_EXAMPLES = `
Examples
  weightcast push ./step_100 -e vllm=http://10.0.0.5:8000 -e vllm=http://10.0.0.6:8000 --weight-version 100
  weightcast push ./step_100 -e vllm=http://127.0.0.1:8000 -t filesystem
  weightcast push ./step_101 -e vllm=http://127.0.0.1:8000 --delta-from ./step_100 --fallback filesystem
  weightcast push ./step_100 --config weightcast.toml --json | jq .outcome
${EXIT_CODES}`;

export const WATCH_EXAMPLES = `
The folder holds step_<n> folders, each pushed once it has a file STABLE (the newest one first, and at the start), as
version <n>; or it is itself a checkpoint that is replaced by a rename, whose version is the time at which it was
written. A failed version is not tried again.
With --delta each version goes as the difference to the one pushed before (the first one: to --delta-from), as long as that one is there and unchanged; else, and
on engines that do not hold it, the whole version is loaded from disk with --fallback filesystem, or refused before anybody is paused.
Of published deltas (weightcast publish --delta) no engine can load one: watch the folder that weightcast follow keeps.
With --json every update prints one JSON document on one line (JSON lines). The exit code is that of the last update.

Examples
  weightcast watch ./outputs/broadcasts -e vllm=http://10.0.0.5:8000 --fallback filesystem
  weightcast watch ./latest -e vllm=http://127.0.0.1:8000 -t filesystem --max-updates 1
  weightcast watch /local/policy -e vllm=http://127.0.0.1:8000 --delta --fallback filesystem
${EXIT_CODES}`;

export const RECOVER_EXAMPLES = `
Reads what the push that died left in the state directory and looks at the engines. Those that were paused and untouched are
resumed; those with a whole new version are proved and resumed; the others load --from, or what that push was allowed to load
(--fallback filesystem, --recover), are proved and resumed, or stay paused and are named. An engine that serves is left alone.

Exit codes: 0 every engine serves, 1 failed, 2 wrong usage, 3 some engine stays paused.

Examples
  weightcast recover -e vllm=http://10.0.0.5:8000
  weightcast recover -e vllm=http://10.0.0.5:8000 --from ./step_99
`;

export const FLEET_EXAMPLES = `
--discover dynamo=URL asks the frontend's RL listener (DYN_ENABLE_RL=1; its port is DYN_RL_PORT, 8001) for its workers; URL is the frontend's base URL or the
listener itself. After it: ,rl=URL ,rl_port=N ,inference=URL ,workers=N ,world_size=N ,model=NAME ,rpc=prime-rl ,vllm=VERSION.
--elastic HOST:PORT takes every address of a name. After it: ,backend=NAME ,scheme=https ,family=4 ,workers=N ,world_size=N ,discover=URL
,rl_port=N, and what the backend takes, such as ,broadcast=filesystem.
push and watch take the same, look again before each update, and wait until world_size GPU workers are there: an engine whose size is not said counts as one,
so say workers=N where each has several. Engines of the command line (-e, --discover, --elastic) replace those of a file.
An engine is ready when it answers and is not paused; engines that say different weight versions are a trouble.

Exit codes: 0 every engine is ready (with --watch: Ctrl-C), 1 one is not, none was found, or there is a trouble, 2 wrong usage.

Examples
  weightcast fleet --discover dynamo=http://frontend:8000
  weightcast fleet --elastic engines.default.svc:8000,backend=prime-rl --watch
  weightcast push ./step_100 --discover dynamo=http://frontend:8000,world_size=8 --weight-version 100
`;

export const SEND_EXAMPLES = `
Listens as rank 0 until the orchestrator has told its engines to join, announces the version by markers in --broadcasts, and broadcasts it once the orchestrator
has paused them. No engine is asked anything. --watch goes on with each new version, the newest first, in the same group.
Ctrl-C withdraws what is announced; what the orchestrator has answered is sent, since its engines wait for it.

Exit codes
  0    sent; whether the engines loaded it the orchestrator knows
  1    not sent, and nothing is announced any more
  2    wrong usage or configuration
  3    the broadcast failed: engines hold part of it or wait in NCCL, and must not be resumed as they are
  130  interrupted before anything was sent

Examples
  weightcast send ./step_100 --broadcasts /run/broadcasts --inference-world-size 8 --master-address 10.0.0.1
  weightcast send ./checkpoints --watch --broadcasts /run/broadcasts --prime-rl-config rl.toml
`;

export const ORCHESTRATE_EXAMPLES = `
Tells the engines to join the trainer's group (--trainer), and for each version that it announces in the folder pauses all of them, lets it send, has them receive,
and resumes those that are whole. Without --trainer the versions are files, which the engines load; adapters are loaded without a pause.
An engine that did not finish stays paused and is named, and the command ends. Ctrl-C finishes an update that has begun.
Engines that are found (--elastic, --discover) load files: they are looked up for each version, who comes later is brought to the last one, and a version that not all
serve is named while the next is waited for. With --trainer they are those who are there at the start: the command ends, with nobody paused, when one leaves or comes.

Exit codes: 0 the versions that came are served, 1 failed and everybody serves what they served, 2 wrong usage, 3 some engine stays paused, 130 interrupted before a version came.

Examples
  weightcast orchestrate /run/broadcasts -e prime-rl=http://gpu-1:8100,workers=4 -e prime-rl=http://gpu-2:8100,workers=4 --trainer 10.0.0.1:29501
  weightcast orchestrate /run/broadcasts -e prime-rl=http://gpu-1:8100
  weightcast orchestrate /run/broadcasts --elastic engines.svc:8100,backend=prime-rl
  weightcast orchestrate /run/broadcasts --prime-rl-config rl.toml
`;

export const PUBLISH_EXAMPLES = `
<weights> is a checkpoint's folder or file, a LoRA adapter's folder, or a version that was published (its step_<n>). It becomes
DIR/step_<N>, which engines load as it is: safetensors shards with their index, and the small files beside the weights. Readers
see it whole or not at all; the file STABLE comes last. What publishers that died have left in DIR is removed first.
--commit manifest-last is for mounts that can't rename or overwrite (object stores).
--delta publishes only what changed against the version before, as a folder that no engine loads by itself: \`weightcast follow\` makes full versions of it.
When the version before is a delta too, --delta-base says where its weights lie. Every tenth version is a full one (--anchor-every).

Exit codes: 0 published, 1 failed: there is no such version, or it is somebody else's, or old ones could not be removed,
2 wrong usage, 130 interrupted.

Examples
  weightcast publish ./checkpoint-1200 --into /shared/policy --version 1200
  weightcast publish ./checkpoint-1200 --into /shared/policy --version 1200 --keep 3 --keep-every 100
  weightcast push /shared/policy/step_1200 -e vllm=http://10.0.0.5:8000 -t filesystem
`;

export const DOCTOR_EXAMPLES = `
Exit codes: 0 nothing wrong, 1 something wrong, 2 wrong usage.

Examples
  weightcast doctor
  weightcast doctor -e vllm=http://10.0.0.5:8000 --json
  weightcast doctor --discover dynamo=http://frontend:8000
`;

export const FOLLOW_EXAMPLES = `
Each version appears in the local directory in full, by one rename, with the digest that was published; weightcast push and watch take it from there. Goes straight to
the newest version, or along the chain of deltas that leads there. One that is not what its manifest says is named and left out. A follower that was killed goes on where it was.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted before there was a version.

Examples
  weightcast follow /shared/policy --into /local/policy
  weightcast follow /shared/policy --into /local/policy --keep 3 --json
`;

export const PRUNE_EXAMPLES = `
The directory holds step_<v> folders that weightcast published; others are not touched. What a reader or a push holds stays, and so does what a delta that stays
was made from. Also removes what publishers and prunes that died have left.

Exit codes: 0 done, 1 something could not be removed, 2 wrong usage, 130 interrupted.

Examples
  weightcast prune /shared/policy --keep 4 --keep-every 100
  weightcast prune /shared/policy --dry-run --json
`;

export const SIMULATE_EXAMPLES = `
prime-rl and dynamo have one kind each: prime-rl 0.8, and Dynamo 1.6's Python workers with a frontend and its RL listener. It prints the push that reaches them.

Examples
  weightcast simulate --engines 2 --workers 2 --model ./checkpoint
  weightcast simulate --backend prime-rl --engines 2
  weightcast simulate --backend dynamo
  weightcast simulate --weight-transfer sparse_nccl
`;

export const DEMO_EXAMPLES = `
Writes about 2.5 GB into a temporary folder, and removes them. Everything is emulated: the numbers say nothing about a GPU.

Example
  weightcast demo --small
`;
