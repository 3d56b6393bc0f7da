/** Every number of the control plane, each with its reason. Durations in milliseconds, sizes in bytes. */

export const VERSION = "0.1.0";

// Leases. A worker with runs renews three times within one lease, so two lost requests do not cost it its runs.
export const LEASE_MS = 15_000;
export const MIN_LEASE_MS = 300; // below that a busy network ends sessions
export const IDLE_LEASE_MS = 150_000; // an idle worker holds nothing; what it is given it must accept within ACCEPT_MS
export const IDLE_HEARTBEAT_MS = 60_000; // one call a minute
export const HEARTBEATS_PER_LEASE = 3;
export const WATCHED_SYNC_MS = 250; // text reaches a viewer well within a second
export const ACCEPT_MS = 15_000; // a run that its worker does not accept in this time goes to another
export const MAX_REDO = 4; // steps that a retry by hand makes anew
export const CANCEL_GRACE_MS = 30_000; // a cancelled run that is not reported by then is closed without its worker
export const TIMEOUT_GRACE_MS = 10_000; // the worker enforces a run's time limit; Convex does when the worker did not

// Retries (each overridable for a task).
export const DEFAULT_RETRY = { maxAttempts: 3, initialMs: 1_000, base: 2, maxMs: 300_000 };
export const MAX_ATTEMPTS = 100;
export const MAX_DELAY_MS = 365 * 24 * 3_600_000; // a year; Convex schedules at most five years ahead
export const MAX_LOSSES = 20; // runs that went down with their worker through no fault of their own
export const ISOLATE_AFTER_LOSSES = 3; // by then the task may be the cause: run it in a process of its own

// Priority. One step of priority is worth this much waiting, so nothing starves.
export const AGEING_MS = 10_000;
export const MAX_PRIORITY = 1_000;

// Sizes.
export const INLINE_BYTES = 8 * 1024; // larger inputs and outputs live in `outputs`, so that task rows stay light
export const MAX_TEXT_BYTES = 1_000_000; // a document holds at most 1 MiB with its other fields
export const MAX_PAYLOAD_BYTES = 8 * 1024 * 1024; // an input or output, kept in parts: half of what a transaction may write
export const MAX_SUBMIT_BYTES = 12 * 1024 * 1024; // inputs of a call: a transaction may write 16 MiB, their rows included
export const MAX_CHUNK_BYTES = 64 * 1024;
export const MAX_PROMPT_BYTES = 32 * 1024; // it goes out with every assignment
export const MAX_SCHEMA_BYTES = 16 * 1024; // of an output: it goes out with every assignment, too
export const MAX_MODELS = 20; // of a chain
export const MAX_TOOLS = 128; // of an agent: what the providers take in a request
export const MAX_TURNS = 5_000; // of a loop, and calls of its tools: half of the steps that a task may have
export const MAX_LLM_LIMIT = 1e15; // tokens, micro-dollars, milliseconds: beyond any use, and exact
export const MAX_LINE_CHARS = 2_000; // of an error or a description: a line for people, kept in rows that lists read
export const MAX_SYNC_ITEMS = 256; // accepted + chunks + finished + acknowledged: far below the write limits of a transaction
export const MAX_SYNC_BYTES = 4 * 1024 * 1024; // a quarter of what a transaction may write
export const MAX_SUBMIT = 200; // tasks in a call
export const MAX_NEXT = 5 * MAX_SUBMIT; // tasks that come with the ends of a sync: far below the write limits of a transaction
export const MAX_LIST = 100;
export const MAX_EVENTS = 200; // of a task, in a page
export const MAX_AGENTS = 200; // of a worker, or in one call of agents:sync
export const MAX_QUEUES = 50;
export const MAX_LABELS = 20; // of a task or a worker
export const BULK_PAGE = 100; // tasks that one call cancels or retries: about 800 documents touched
export const BULK_EDGES = 1_000; // dependencies that one call of retryMany looks at, twice each: with its tasks below 4,096 index ranges
export const FAILURES_PAGE = 500; // failed tasks that one call counts, of up to 18 KB each
export const CAUSE_EXAMPLES = 3; // of a cause
export const CAUSE_RUNS = 500; // runs of a task that are looked through for causes
export const MAX_BATCH_ITEMS = 1_000; // submits that share a task; its input is read in one page of so many rows
export const MAX_CAPABILITIES = 20; // of an agent; also how many agents of one capability a submit looks at
export const MAX_KEY_CHARS = 256; // of a dedup or limit key
export const MAX_CAPACITY = 1_000;
export const MAX_LIVE_WORKERS = 500; // that one dispatch pass considers
export const TAIL_CHUNKS = 64;
export const MAX_WATCH_MS = 60_000;
export const INBOX_RUNS = 256; // a burst reaches its worker in one piece
export const INBOX_BYTES = 1024 * 1024; // of inputs; the runs behind it show as these are accepted
export const INBOX_CONTROLS = 64;
export const INBOX_WATCHES = 64;

// Steps, waits, signals.
export const MAX_STEPS = 10_000; // of a task: it is read before each of its runs
export const RESTART_STEPS = 256; // that a transaction drops
export const FORK_STEPS = 200; // that a transaction copies, of up to 8 KB each
export const MAX_FORK_DEPTH = 20; // forks of forks
export const COMPARED_STEPS = 1_000; // of a task, that a comparison reads
export const COMPARED_BYTES = 3 * 1024 * 1024; // of their results: a query may read 16 MiB
export const KEPT_VERSIONS = 20; // of the settings of an agent; each holds a prompt of up to 32 KB
export const MAX_STEP_CHARS = 200; // of a step's key
export const STEPS_PAGE = 200;
export const STEPS_PAGE_BYTES = 1024 * 1024;
export const MAX_SIGNALS = 1_000; // that wait in one task
export const MAX_SIGNAL_BYTES = 8 * 1024;
export const SIGNAL_PAGE = 100; // that a run is told before it begins; the others follow as these are taken
export const SIGNAL_MEMORY_MS = 3_600_000; // a signal that comes again under its id within an hour is known
export const MAX_STATE_BYTES = 8 * 1024; // of what a run says of itself
export const MAX_SILENT = 32; // runs of a worker that are told to be silent
export const GATHERED_TASKS = 50; // whose outcomes one query tells
export const GATHERED_BYTES = 1024 * 1024; // from there on the others come with the next query
export const APPROVAL_MS = 7 * 24 * 3_600_000; // that people have to decide, unless whoever asks says otherwise
export const MAX_APPROVAL_BYTES = 64 * 1024; // of arguments that a person is to check, or of a result that one tells
export const MAX_ASKS = 50; // questions of a task that are open at a time
export const WAKE_BATCH = 100; // tasks that one transaction wakes for an event

// Limits.
export const MAX_LIMIT = 1_000_000; // runs at once, starts of a rate, tokens of a burst
export const MAX_WEIGHT = 100; // tasks of a lane in one turn: a batch, so a turn is never longer than a pass
export const LIMITS_WHOLE = 64; // up to here a pass reads all limits at once; beyond, those of the lanes it sees
export const CENSUS_RUNS = 16_000; // live runs that can be counted for a new limit: half of what a transaction may read
export const CENSUS_NAMES = 1_000; // scopes that a pass counts
export const CENSUS_AGAIN_MS = 5_000; // when there are more live runs than that
export const STICKY_MS = 24 * 3_600_000; // that a worker is preferred after its last run of a sticky key
export const STICKY_BATCH = 16; // stickies that a pass forgets

// Models of providers.
export const MAX_MODEL_CHARS = 200; // of a model's name
export const MAX_MODELS_TOLD = 200; // models with limits, or that cool, at a time: every inbox tells them
export const MODEL_REPORTS_BATCH = 100; // of a pass of the models loop
export const FORGET_MODEL_MS = 90 * 24 * 3_600_000; // how a model did that nobody has asked since, and that has no limits

// What is shown of why things wait.
export const AHEAD_SHOWN = 100; // tasks counted before one in its lane
export const BACKLOG_ROWS = 10_000; // tasks counted over all queues: a third of what a query may read
export const BACKLOG_QUEUES = 100;
export const DEMAND_LANES = 200; // whose limits are looked at, at most 20 rows for each
export const LAG_RUNS = 100; // the last runs, whose waiting is told

// What the dashboard is shown in one query; each runs again with every change in what it has read.
export const DASHBOARD_PAGE = 100; // tasks read for a page of the list
export const DASHBOARD_ATTEMPTS = 50; // the newest of a task
export const DASHBOARD_STEPS = 200; // the last of a task
export const DASHBOARD_CALLS = 100; // attempts at model calls, the last of a task
export const DASHBOARD_FORKS = 20; // the newest of a task
export const DASHBOARD_STEP_CHARS = 2_000; // of a step's result
export const DASHBOARD_WORKERS = 100;
export const DASHBOARD_QUEUES = 20;
export const DASHBOARD_QUEUE_ROWS = 100; // tasks of a queue that are counted
export const DASHBOARD_FAILURES = 50; // the last, by what they failed of

// Loops.
export const DISPATCH_BATCH = 100; // assignments of a pass: about 600 documents touched, milliseconds of user time
export const DISPATCH_LANES = 64; // lanes that a pass looks at; the next pass goes on behind them
export const DISPATCH_STEPS = 128; // over the index of lanes in a pass, those that are held back included
export const DISPATCH_HINTS = 16; // lanes where something has just come or gone, looked at wherever they lie
export const CIRCLE_MS = 1_000; // between two times round the circle of more lanes than a pass reads, all of them held back
export const FREED_BATCH = 256;
export const TIMER_BATCH = 50; // of each kind; with the next two a pass stays below 4,096 index ranges
export const TIMER_SESSIONS = 3; // each with a page of its runs
export const END_RUNS_BATCH = 25;
export const LONGEST_SLEEP_MS = 24 * 3_600_000; // of the timers: no row, however far off, is scheduled beyond a day
export const WATCHDOG_MS = 60_000;
export const WATCHDOG_BATCH = 100;
export const SET_ASIDE_MS = 600_000; // until an item that a loop could not handle comes again

// Budgets.
export const MAX_MICROS = 1e15; // a billion dollars: sums of these are exact
export const MAX_TOKENS = 1e15;
export const BUDGETS_OF_SCOPE = 20; // budgets of one scope: four periods, each with a policy
export const MAX_ANCESTORS = 32; // tasks above one whose budgets it spends from; what is deeper down spends from the nearest
export const BUDGET_LOOK_MS = 300_000; // a task that waits for a budget looks again by itself: a wake-up got lost
export const BUDGET_WORK = 32; // wishes and ends of runs that a pass of dispatch settles: each is up to thirty documents
export const BUDGET_WAITERS = 32; // runs that wait for more, looked at when something was given back
export const BUDGET_RELEASES = 64; // tasks put back in line at a time
export const KEEP_PERIODS_MS = 400 * 24 * 3_600_000; // of what was spent in a day or month: a year and some
export const FORGOTTEN_PERIODS = 4; // removed when a new one begins: more than that adds
export const MAX_SPENDINGS = 256; // runs of which a sync tells what they have spent

// Structure.
export const MAX_AFTER = 100; // dependencies of a task
export const MAX_EDGES = 2_000; // dependencies in a call of submit: with their tasks far below 4,096 index ranges
export const MAX_GROUPS_OF_TASK = 2; // the one it joins, and the one made for its own onComplete
export const UPSTREAM_BYTES = 1024 * 1024; // of outputs in a page, and at least one
export const LINKS_SHOWN = 100; // of each kind, of a task
export const SETTLE_BATCH = 64; // settlements of a pass
export const SETTLE_EDGES = 500; // edges that a pass settles: each is up to seven documents
export const CANCEL_PAGE = 50; // tasks of a subtree or group that one step cancels
export const CALLBACK_TRIES = 8; // then it has failed, for all to see
export const CALLBACK_RETRY = { maxAttempts: CALLBACK_TRIES, initialMs: 10_000, base: 2, maxMs: 600_000 };

// Schedules.
export const MIN_INTERVAL_MS = 1_000;
export const MAX_CRON_CHARS = 200;
export const MAX_JITTER_MS = 24 * 3_600_000;
export const MAX_TEMPLATE_BYTES = INLINE_BYTES; // of the input; it is read and written with every occurrence
export const ON_TIME_MS = WATCHDOG_MS; // an occurrence that is later was missed: by then the watchdog has revived dead timers
export const CATCH_UP_WINDOW_MS = 24 * 3_600_000; // how late a missed occurrence is made up, when the schedule does not say
export const CATCH_UP_BATCH = 5; // occurrences of a schedule in one pass, which does that for TIMER_BATCH schedules
export const OVERLAP_TASKS = 20; // of a schedule, the newest, that are looked at to see whether one has not ended
export const MAX_PREVIEW = 100;

// Endpoints.
export const MAX_ENDPOINTS = 50;
export const ENDPOINT_CONCURRENCY = 10;
export const MAX_ENDPOINT_CONCURRENCY = 200; // its alarm looks at all of its runs in one transaction
export const HEALTH_EVERY_MS = 15_000;
export const MIN_HEALTH_EVERY_MS = 1_000; // each check is an action that Convex bills
export const MAX_HEALTH_EVERY_MS = 600_000;
export const HEALTH_TIMEOUT_MS = 5_000;
export const MAX_MISSES = 3; // then its runs go elsewhere
export const DEAD_HEALTH_FACTOR = 8; // a dead endpoint that work waits for is asked ever more rarely, down to this
export const PUSH_TIMEOUT_MS = 60_000;
export const MAX_PUSH_TIMEOUT_MS = 540_000; // an action lives for ten minutes at least, wherever it runs
export const PUSH_GRACE_MS = 30_000; // for the action that waits for an answer to tell of it; then it is taken for dead
export const PUSH_SILENCE_MS = 600_000; // a run that was taken is lost when nothing was heard of it for so long
export const PUSH_INLINE_BYTES = 256 * 1024; // larger inputs are fetched: serverless platforms bound what they are sent
export const MAX_ASK_BYTES = 2 * MAX_PAYLOAD_BYTES; // of what an endpoint asks for a run: a large output, as JSON text in JSON
export const MAX_ANSWER_BYTES = 2 * 1024 * 1024; // of an endpoint's answer or callback: an output, and text beside it
export const MAX_HEALTH_BYTES = 256 * 1024; // of an answer to a check: 200 agents with their versions, 200 runs, 32 that are silent
export const OTHER_VERSION_MS = 5_000; // before a run comes again for which an endpoint has other code
export const MAX_RETRY_AFTER_MS = 24 * 3_600_000;
export const BUSY_ENDPOINT_MS = 1_000; // before a run that was turned away without a word of when comes again
export const CONTROL_CALL_MS = 10_000; // for an endpoint to take what it is told of a run
export const WAKE_AGAIN_MS = 5_000; // between two wake-up calls, and twice as long after each that brought nobody
export const MAX_WAKE_AGAIN_MS = 300_000;
export const WAKE_TIMEOUT_MS = 300_000; // it may answer once its work is done; the call is a success before that
export const MESSAGES_BATCH = 200; // ids forgotten at a time

// Events and webhooks.
export const MAX_TRIGGERS = 50; // of an event: their tasks are one transaction with what caused it
export const MAX_EVENT_BYTES = 128 * 1024; // of its data, which every trigger's task holds: together below half of what a transaction may write
export const MAX_CONDITIONS = 10; // of a trigger
export const MAX_SECRETS = 5; // of a webhook: the one that goes, the one that comes, and some to spare
export const MAX_WEBHOOK_BYTES = 1024 * 1024; // of a body
export const NONCE_KEEP_MS = 7 * 24 * 3_600_000; // longer than senders go on trying

// Upkeep.
export const KEEP_DAYS = 30; // what has ended is kept so long, unless the deployment says otherwise
export const MAX_KEEP_DAYS = 3_650;
export const KEEP_STATS_MS = 90 * 24 * 3_600_000; // a row for each minute and scope in which something happened
export const RETENTION_MARGIN_MS = 60_000; // an event's time is its commit's, a little after its task's `endedAt`
export const RECHECK_MS = 24 * 3_600_000; // until something that is kept for another thing's sake is looked at again
export const UPKEEP_BUSY_MS = 300_000; // a chain that was not heard of for so long has died
export const RETENTION_TOUCHES = 1_000; // rows deleted and index ranges read in a page: a transaction may read 4,096 ranges
export const RETENTION_BYTES = 2 * 1024 * 1024; // of texts in a page: each is read twice, and a transaction may read 16 MiB
export const RETENTION_ROWS = 32; // read at a time: the largest chunks are 2 MiB
export const RETENTION_EVENTS = 100; // looked at in a page
export const MINUTE_MS = 60_000; // of a bucket of the rollup
export const UPKEEP_PAUSE_MS = 40; // between its pages, so that dispatch and syncs go first
export const ROLLUP_EVENTS = 200; // in a page: each in four scopes, so at most 2,000 index ranges
export const MAX_BUCKETS = 1_440; // in a call of stats:read: a day
export const ARCHIVE_EVENTS = 100; // looked at in a page of the archive: each end is up to nine index ranges
export const ARCHIVE_ROWS = 50; // of a part of a task, in a page
export const ARCHIVE_BYTES = 1024 * 1024; // of a page, but for what the last task has over
