import { type Kysely, type Migration, sql } from "kysely";

/** Applied in the order of their names; an applied migration is never edited, only followed by another. */
export const MIGRATIONS: Record<string, Migration> = {
  "001-first": {
    async up(db: Kysely<unknown>) {
      for (const statement of FIRST) await sql.raw(statement).execute(db);
    },
  },
  "002-infra": {
    async up(db: Kysely<unknown>) {
      for (const statement of INFRA) await sql.raw(statement).execute(db);
    },
  },
  "003-notify": {
    async up(db: Kysely<unknown>) {
      for (const statement of NOTIFY) await sql.raw(statement).execute(db);
    },
  },
  "004-infra-state-in": {
    async up(db: Kysely<unknown>) {
      await sql.raw("alter table infra_runs add column state_in jsonb").execute(db);
    },
  },
  "005-declared": {
    async up(db: Kysely<unknown>) {
      for (const statement of DECLARED) await sql.raw(statement).execute(db);
    },
  },
  "006-infra-stop": {
    async up(db: Kysely<unknown>) {
      for (const statement of INFRA_STOP) await sql.raw(statement).execute(db);
    },
  },
  "007-infra-repositories": {
    async up(db: Kysely<unknown>) {
      for (const statement of INFRA_REPOSITORIES) await sql.raw(statement).execute(db);
    },
  },
  "008-task-drift": {
    async up(db: Kysely<unknown>) {
      for (const statement of TASK_DRIFT) await sql.raw(statement).execute(db);
    },
  },
  "009-backing-run": {
    async up(db: Kysely<unknown>) {
      await sql.raw("alter table declared_backing add column run_id text").execute(db);
    },
  },
  "010-infra-drift": {
    async up(db: Kysely<unknown>) {
      for (const statement of INFRA_DRIFT) await sql.raw(statement).execute(db);
    },
  },
  "011-runtimes": {
    async up(db: Kysely<unknown>) {
      for (const statement of RUNTIMES) await sql.raw(statement).execute(db);
    },
  },
  "012-task-runs": {
    async up(db: Kysely<unknown>) {
      for (const statement of TASK_RUNS) await sql.raw(statement).execute(db);
    },
  },
  "013-drift-ignored": {
    async up(db: Kysely<unknown>) {
      await sql.raw(DRIFT_IGNORED).execute(db);
    },
  },
  // A kept plan has what it was made from beside it now: one that waits has to be made anew.
  "014-plan-starts": {
    async up(db: Kysely<unknown>) {
      await sql.raw("update infra_runs set plan_file = null where plan_file is not null").execute(db);
    },
  },
  "015-pipeline-runners": {
    async up(db: Kysely<unknown>) {
      await sql.raw("alter table pipelines add column runner jsonb, add column tidied_at timestamptz").execute(db);
    },
  },
  "016-approvals": {
    async up(db: Kysely<unknown>) {
      await sql.raw("alter table deployments add column approval jsonb").execute(db);
      await sql.raw("create index deployments_waiting on deployments (id) where status = 'waiting'").execute(db);
    },
  },
  "017-pipeline-values": {
    async up(db: Kysely<unknown>) {
      for (const statement of PIPELINE_VALUES) await sql.raw(statement).execute(db);
    },
  },
  "018-account-secrets": {
    async up(db: Kysely<unknown>) {
      await sql.raw("alter table deployments add column account_secrets jsonb").execute(db);
    },
  },
  "019-teardowns": {
    async up(db: Kysely<unknown>) {
      for (const statement of TEARDOWNS) await sql.raw(statement).execute(db);
    },
  },
  "020-paused-pipelines": {
    async up(db: Kysely<unknown>) {
      await sql
        .raw(
          `alter table pipelines add column gates jsonb, add column paused_at timestamptz,
            add column started_gates jsonb not null default '[]', add column continuation text`,
        )
        .execute(db);
    },
  },
};

const FIRST = [
  "create table settings (name text primary key, value text not null)",
  `create table apps (
    name text primary key,
    next_release int not null default 1,
    next_pipeline int not null default 1,
    created_at timestamptz not null default now()
  )`,
  `create table environments (
    app text not null references apps on delete cascade,
    name text not null,
    live_release int,
    standby_release int,
    standby_until timestamptz,
    frozen_reason text,
    frozen_at timestamptz,
    running_deployment text,
    primary key (app, name)
  )`,
  `create table refs (
    app text not null references apps on delete cascade,
    ref text not null,
    commit text not null,
    primary key (app, ref)
  )`,
  `create table changes (
    id text primary key,
    app text not null references apps on delete cascade,
    ref_kind text not null,
    ref_name text not null,
    commit text not null,
    previous_commit text,
    subject text not null,
    author text not null,
    actor text not null,
    skip_ci boolean not null,
    only_environment text,
    ended_at timestamptz,
    created_at timestamptz not null default now()
  )`,
  `create table pipelines (
    id text primary key,
    app text not null references apps on delete cascade,
    number int not null,
    change_id text not null references changes on delete cascade,
    commit text not null,
    ref_name text not null,
    status text not null,
    reason text,
    steps jsonb not null,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    unique (app, number)
  )`,
  `create table steps (
    pipeline_id text not null references pipelines on delete cascade,
    step_id text not null,
    outcome jsonb not null,
    primary key (pipeline_id, step_id)
  )`,
  `create table releases (
    app text not null references apps on delete cascade,
    number int not null,
    change_id text not null,
    commit text not null,
    ref_name text not null,
    subject text not null,
    author text not null,
    -- json, not jsonb: the services keep the order in which the user wrote them
    spec json not null,
    images json not null,
    created_at timestamptz not null default now(),
    primary key (app, number),
    unique (app, change_id)
  )`,
  `create table deployments (
    id text primary key,
    app text not null,
    environment text not null,
    release int not null,
    kind text not null,
    status text not null,
    actor text not null,
    delivery_id text not null,
    from_release int,
    cancel_requested boolean not null default false,
    live_after_ms double precision,
    phases jsonb not null,
    phase text,
    problem jsonb,
    evidence jsonb not null,
    rolled_back boolean not null default false,
    addresses jsonb not null,
    secret_versions jsonb not null,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    foreign key (app, environment) references environments on delete cascade
  )`,
  "create index deployments_by_environment on deployments (app, environment, created_at desc)",
  "create index deployments_by_delivery on deployments (delivery_id)",
  `create table events (
    id bigserial primary key,
    at timestamptz not null default now(),
    app text,
    environment text,
    subject text not null,
    delivery_id text,
    kind text not null,
    actor text not null,
    data jsonb not null
  )`,
  "create index events_by_delivery on events (delivery_id, id)",
  "create index events_by_app on events (app, id)",
  `create table tokens (
    id text primary key,
    name text not null,
    role text not null,
    app text,
    hash bytea not null unique,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
  )`,
  `create table secrets (
    app text not null references apps on delete cascade,
    environment text not null,
    name text not null,
    version int not null,
    sealed bytea not null,
    internal boolean not null,
    created_at timestamptz not null default now(),
    removed_at timestamptz,
    primary key (app, environment, name, version)
  )`,
];

const INFRA = [
  `create table infra_environments (
    app text not null references apps on delete cascade,
    environment text not null,
    running_run text,
    blocked_by text,
    applied_run text,
    applied_commit text,
    applied_inputs text,
    applied_spec json,
    outputs bytea,
    lock jsonb,
    drift json,
    drift_at timestamptz,
    primary key (app, environment)
  )`,
  `create table infra_runs (
    id text primary key,
    app text not null,
    environment text not null,
    kind text not null,
    status text not null,
    commit text not null,
    ref_name text not null,
    actor text not null,
    delivery_id text not null,
    -- json, not jsonb: variables keep the order in which the user wrote them
    spec json not null,
    inputs text not null,
    imports json not null,
    plan json,
    plan_file bytea,
    plan_sha256 text,
    planned_at timestamptz,
    state_version int,
    credential bytea,
    approved_by text,
    apply_started_at timestamptz,
    problem jsonb,
    timings jsonb not null,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    foreign key (app, environment) references infra_environments on delete cascade
  )`,
  "create index infra_runs_by_environment on infra_runs (app, environment, created_at desc)",
  "create index infra_runs_by_delivery on infra_runs (delivery_id)",
  `create table infra_states (
    app text not null,
    environment text not null,
    version int not null,
    serial int not null,
    lineage text not null,
    resources int not null,
    sealed bytea not null,
    run_id text,
    actor text not null,
    reason text not null,
    created_at timestamptz not null default now(),
    primary key (app, environment, version),
    foreign key (app, environment) references infra_environments on delete cascade
  )`,
  `create table infra_accepted (
    app text not null,
    environment text not null,
    address text not null,
    reason text not null,
    actor text not null,
    until timestamptz,
    created_at timestamptz not null default now(),
    primary key (app, environment, address),
    foreign key (app, environment) references infra_environments on delete cascade
  )`,
];

const NOTIFY = [
  `create table notify_hooks (
    id text primary key,
    app text references apps on delete cascade,
    format text not null,
    selectors jsonb not null,
    url bytea not null,
    shown_url text not null,
    secret bytea not null,
    cursor bigint not null,
    failing_since timestamptz,
    actor text not null,
    created_at timestamptz not null default now()
  )`,
  `create table notify_deliveries (
    id text primary key,
    hook_id text not null references notify_hooks on delete cascade,
    event_id bigint,
    kind text not null,
    status text not null,
    attempts int not null,
    http_status int,
    answer text,
    problem text,
    next_at timestamptz,
    ended_at timestamptz,
    created_at timestamptz not null default now()
  )`,
  "create index notify_deliveries_by_hook on notify_deliveries (hook_id, created_at desc)",
];

/** What is declared through the API: variables, environments, backing services. */
const DECLARED = [
  `create table variables (
    app text not null references apps on delete cascade,
    environment text not null,
    name text not null,
    version int not null,
    value text not null,
    created_at timestamptz not null default now(),
    removed_at timestamptz,
    primary key (app, environment, name, version)
  )`,
  "alter table deployments add column variable_versions jsonb",
  "alter table environments add column declared boolean not null default false",
  "alter table environments add column declared_branch text",
  "alter table environments add column declared_tag text",
  // The history of an environment outlives it.
  "alter table deployments drop constraint deployments_app_environment_fkey",
  "alter table deployments add foreign key (app) references apps on delete cascade",
  `create table declared_backing (
    app text not null references apps on delete cascade,
    environment text not null,
    name text not null,
    engine text not null,
    version text,
    drift text,
    created_at timestamptz not null default now(),
    primary key (app, environment, name)
  )`,
  "alter table infra_environments add column drift_due boolean not null default false",
];

const INFRA_STOP = [
  `alter table infra_runs
    add column cancel_requested_at timestamptz,
    add column cancel_requested_by text,
    add column interrupted_at timestamptz,
    add column force_requested_at timestamptz,
    add column force_requested_by text`,
];

const INFRA_REPOSITORIES = [
  `create table infra_repositories (
    name text primary key,
    app text not null references apps on delete cascade,
    created_at timestamptz not null default now()
  )`,
  `create table infra_refs (
    repository text not null references infra_repositories on delete cascade,
    ref text not null,
    commit text not null,
    primary key (repository, ref)
  )`,
  `create table infra_pushes (
    repository text not null references infra_repositories on delete cascade,
    commit text not null,
    actor text not null,
    created_at timestamptz not null default now(),
    primary key (repository, commit, actor)
  )`,
  "alter table deployments add column infra json",
];

const TASK_DRIFT = [
  `create table task_drift (
    app text not null,
    environment text not null,
    drift jsonb not null,
    primary key (app, environment),
    foreign key (app, environment) references environments on delete cascade
  )`,
  "create index events_mended on events (app, environment, id) where kind = 'environment.mended'",
];

const INFRA_DRIFT = [
  "alter table infra_accepted rename to infra_ignored",
  "alter table infra_ignored add column path text not null default ''",
  "alter table infra_ignored drop constraint infra_accepted_pkey",
  "alter table infra_ignored add primary key (app, environment, address, path)",
  "alter table infra_runs add column takeover jsonb",
  `create table rollout_writes (
    app text not null references apps on delete cascade,
    environment text not null,
    type text not null,
    object text not null,
    path text not null,
    among text not null,
    value text not null,
    previous text,
    written_at timestamptz not null,
    primary key (app, environment, type, object, path, among)
  )`,
];

/** Where environments are and were beside Docker, and what their images were pushed as. */
const RUNTIMES = [
  `create table runtimes (
    app text not null references apps on delete cascade,
    environment text not null,
    key text not null,
    settings jsonb not null,
    is_current boolean not null,
    primary key (app, environment, key)
  )`,
  `create table published_images (
    app text not null references apps on delete cascade,
    service text not null,
    digest text not null,
    registry text not null,
    reference text not null,
    created_at timestamptz not null default now(),
    primary key (app, service, digest, registry)
  )`,
];

const TASK_RUNS = [
  `create table task_runs (
    id text primary key,
    app text not null references apps on delete cascade,
    environment text not null,
    service text not null,
    release int not null,
    command text not null,
    sealed bytea,
    status text not null,
    actor text not null,
    deadline_ms bigint not null,
    begun_at timestamptz,
    canceled_by text,
    exit_code int,
    out_of_memory boolean not null default false,
    problem jsonb,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    forgotten_at timestamptz
  )`,
  "create index task_runs_by_app on task_runs (app, created_at desc)",
  "create index task_runs_open on task_runs (id) where forgotten_at is null",
  `create table exec_sessions (
    id text primary key,
    app text not null references apps on delete cascade,
    environment text not null,
    service text not null,
    task text not null,
    command text not null,
    actor text not null,
    started_at timestamptz not null default now(),
    ended_at timestamptz
  )`,
  "create index exec_sessions_open on exec_sessions (id) where ended_at is null",
];

/** Variables and secrets of pipeline steps, beside those of tasks. */
const PIPELINE_VALUES = [
  ...["variables", "secrets"].flatMap((table) => [
    `alter table ${table} add column pipelines boolean not null default false`,
    `alter table ${table} drop constraint ${table}_pkey`,
    `alter table ${table} add primary key (app, environment, pipelines, name, version)`,
  ]),
  "alter table pipelines add column value_versions jsonb",
];

// The kind of drift that somebody ignores was called `accepted`, as the command that takes drift over into the state is.
const DRIFT_IGNORED = `update infra_environments
  set drift = jsonb_set(drift::jsonb, '{resources}', (
    select coalesce(jsonb_agg(case when one ->> 'kind' = 'accepted' then jsonb_set(one, '{kind}', '"ignored"') else one end order by at), '[]')
    from jsonb_array_elements(drift::jsonb -> 'resources') with ordinality as found (one, at)
  ))::json
  where drift -> 'resources' is not null`;

const TEARDOWNS = [
  `create table teardowns (
    id text primary key,
    app text not null references apps on delete cascade,
    environment text not null,
    until text not null,
    infra text not null,
    data text not null,
    overrule text,
    actor text not null,
    status text not null,
    infra_run text,
    problem jsonb,
    remarks jsonb not null default '[]',
    created_at timestamptz not null default now(),
    ended_at timestamptz
  )`,
  "create unique index teardowns_open on teardowns (app, environment) where ended_at is null",
  `alter table environments
    add column teardown text,
    add column stopped_release int,
    add column stopped_by text,
    add column stopped_at timestamptz`,
  "alter table infra_runs add column overrule text",
];
