CREATE TABLE public.client (
    id integer NOT NULL,
    identifier character varying(10) NOT NULL,
    email text,
    email_key text,
    reference text,
    civility text NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    language text NOT NULL,
    disabled_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    active_sequence integer NOT NULL,
    revoked_below integer NOT NULL,
    last_sequence integer NOT NULL,
    failed_logins integer NOT NULL,
    blocked_until timestamp with time zone,
    last_login_at timestamp with time zone,
    lease_owner text,
    lease_until timestamp with time zone,
    email_changed_at timestamp with time zone,
    email_bounced_at timestamp with time zone
);
CREATE SEQUENCE public.client_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.client_id_seq OWNED BY public.client.id;
CREATE TABLE public.credential (
    id integer NOT NULL,
    client_id integer NOT NULL,
    sequence integer NOT NULL,
    state text NOT NULL,
    password_hash text,
    run_id integer,
    message_id text,
    server_reply text,
    failure text,
    created_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    expires_at timestamp with time zone,
    first_used_at timestamp with time zone,
    issued_by text NOT NULL,
    bounced_at timestamp with time zone,
    bounce text
);
CREATE SEQUENCE public.credential_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.credential_id_seq OWNED BY public.credential.id;
CREATE TABLE public.event (
    id integer NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    host text NOT NULL,
    action text NOT NULL,
    client_id integer,
    run_id integer,
    outcome text NOT NULL,
    details text NOT NULL
);
CREATE SEQUENCE public.event_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.event_id_seq OWNED BY public.event.id;
CREATE TABLE public.installation (
    id integer NOT NULL,
    name text NOT NULL,
    value text NOT NULL
);
CREATE SEQUENCE public.installation_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.installation_id_seq OWNED BY public.installation.id;
CREATE TABLE public.login_place (
    id integer NOT NULL,
    client_id integer NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.login_place_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.login_place_id_seq OWNED BY public.login_place.id;
CREATE TABLE public.mail_count (
    id integer NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    mails integer NOT NULL,
    owner text
);
CREATE SEQUENCE public.mail_count_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.mail_count_id_seq OWNED BY public.mail_count.id;
CREATE TABLE public.mail_pace (
    id integer NOT NULL,
    last_at timestamp with time zone CONSTRAINT mail_pace_next_at_not_null NOT NULL
);
CREATE SEQUENCE public.mail_pace_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.mail_pace_id_seq OWNED BY public.mail_pace.id;
CREATE TABLE public.rate_count (
    id integer NOT NULL,
    subject text NOT NULL,
    times text NOT NULL,
    beyond integer NOT NULL,
    ends_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.rate_count_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.rate_count_id_seq OWNED BY public.rate_count.id;
CREATE TABLE public.reissue_item (
    id integer NOT NULL,
    run_id integer NOT NULL,
    client_id integer NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL,
    lease_owner text,
    lease_until timestamp with time zone,
    not_before timestamp with time zone NOT NULL,
    failure text,
    details text,
    line integer,
    tried_since timestamp with time zone
);
CREATE SEQUENCE public.reissue_item_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.reissue_item_id_seq OWNED BY public.reissue_item.id;
CREATE TABLE public.reissue_run (
    id integer NOT NULL,
    name text NOT NULL,
    selection text NOT NULL,
    state text NOT NULL,
    options text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    worked_until timestamp with time zone,
    finished_at timestamp with time zone,
    paused_until timestamp with time zone,
    pauses integer NOT NULL,
    throttle text
);
CREATE SEQUENCE public.reissue_run_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.reissue_run_id_seq OWNED BY public.reissue_run.id;
CREATE TABLE public.schema_migration (
    id integer NOT NULL,
    name character varying(255) NOT NULL,
    applied timestamp without time zone NOT NULL
);
CREATE SEQUENCE public.schema_migration_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.schema_migration_id_seq OWNED BY public.schema_migration.id;
ALTER TABLE ONLY public.client ALTER COLUMN id SET DEFAULT nextval('public.client_id_seq'::regclass);
ALTER TABLE ONLY public.credential ALTER COLUMN id SET DEFAULT nextval('public.credential_id_seq'::regclass);
ALTER TABLE ONLY public.event ALTER COLUMN id SET DEFAULT nextval('public.event_id_seq'::regclass);
ALTER TABLE ONLY public.installation ALTER COLUMN id SET DEFAULT nextval('public.installation_id_seq'::regclass);
ALTER TABLE ONLY public.login_place ALTER COLUMN id SET DEFAULT nextval('public.login_place_id_seq'::regclass);
ALTER TABLE ONLY public.mail_count ALTER COLUMN id SET DEFAULT nextval('public.mail_count_id_seq'::regclass);
ALTER TABLE ONLY public.mail_pace ALTER COLUMN id SET DEFAULT nextval('public.mail_pace_id_seq'::regclass);
ALTER TABLE ONLY public.rate_count ALTER COLUMN id SET DEFAULT nextval('public.rate_count_id_seq'::regclass);
ALTER TABLE ONLY public.reissue_item ALTER COLUMN id SET DEFAULT nextval('public.reissue_item_id_seq'::regclass);
ALTER TABLE ONLY public.reissue_run ALTER COLUMN id SET DEFAULT nextval('public.reissue_run_id_seq'::regclass);
ALTER TABLE ONLY public.schema_migration ALTER COLUMN id SET DEFAULT nextval('public.schema_migration_id_seq'::regclass);
INSERT INTO public.client VALUES (5, '3079512741', 'luc@Straße.example', 'luc@xn--strae-oqa.example', NULL, '', '', 'Petit', '', '2025-01-02 03:04:05+00', '2024-01-02 03:04:05+00', '2026-11-29 02:14:07.371+00', 1, 0, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.client VALUES (1, '7130279332', 'jeanne@example.org', 'jeanne@example.org', 'D-2047', 'Mme', 'Élouan', 'Dupont', '', NULL, '2026-11-29 02:13:55.835+00', '2026-11-29 02:13:55.835+00', 2, 0, 2, 0, NULL, '2026-11-29 02:14:19.449+00', NULL, NULL, NULL, NULL);
INSERT INTO public.client VALUES (2, '5079512743', 'marc.petit@example.org', 'marc.petit@example.org', NULL, '', '', '', '', NULL, '2026-11-29 02:13:59.209+00', '2026-11-29 02:14:43.112+00', 2, 0, 2, 2, NULL, NULL, NULL, NULL, '2026-11-29 02:14:43.112+00', NULL);
INSERT INTO public.client VALUES (3, '6079512745', 'paul@example.org', 'paul@example.org', NULL, '', '', '', 'en', '2026-11-29 02:14:45.91+00', '2026-11-29 02:14:01.572+00', '2026-11-29 02:14:45.91+00', 1, 0, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.client VALUES (4, '4079512749', NULL, NULL, NULL, '', '', '', '', '2026-11-29 02:14:48.574+00', '2026-11-29 02:14:04.236+00', '2026-11-29 02:14:48.574+00', 1, 2, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.credential VALUES (1, 5, 1, 'accepted', '$2b$04$vLYWnjancQ85qjQIIq8Xte1ukH3nnpKo68shSwfkSNKT7Ct1ZanNe', NULL, NULL, NULL, NULL, '2026-11-29 02:14:07.425+00', '2026-11-29 02:14:07.425+00', NULL, '2026-11-29 02:14:07.425+00', 'egec', NULL, NULL);
INSERT INTO public.credential VALUES (4, 3, 1, 'accepted', '$2b$04$UcLcHgp14pM8gFJvi7ZtweAR8slg/pJrXarPQD56nSZkGECz8arjm', 1, '<3.5ca76c4c69f54ce0ece17b30@egec.pro>', '/var/lib/egec/mail/new/1795918453.a3dee6c913badea3.host', NULL, '2026-11-29 02:14:12.849+00', '2026-11-29 02:14:13.707+00', '2026-12-29 02:14:12.849+00', NULL, 'egec', NULL, NULL);
INSERT INTO public.credential VALUES (2, 1, 1, 'superseded', '$2b$04$Vf4ft.Jif7EULKFd/wQVD.E6hKBu630hsuzdIhGdvk4azLlcavG8G', 1, '<1.dbd521cba7007f8a82fdb70b@egec.pro>', '/var/lib/egec/mail/new/1795918453.52e2de07b3400250.host', NULL, '2026-11-29 02:14:12.849+00', '2026-11-29 02:14:13.376+00', '2026-12-29 02:14:12.849+00', NULL, 'egec', NULL, NULL);
INSERT INTO public.credential VALUES (6, 1, 2, 'accepted', '$2b$04$FDpfd59ZZgtK00wbBP7P9ODcOGoUDZqE4FoBWbip3T0aqmnZCsoBa', NULL, NULL, 'shown to the operator', NULL, '2026-11-29 02:14:17.235+00', '2026-11-29 02:14:17.341+00', '2026-12-29 02:14:17.235+00', '2026-11-29 02:14:19.449+00', 'egec', NULL, NULL);
INSERT INTO public.credential VALUES (7, 2, 2, 'accepted', '$2b$04$DE89XMj0vWbJEqlY3c5wbO0n1Ke1eYPUbgVS1Y5F4RIwwlwPzqNP2', NULL, '<2.903e32c2e2ba63122f3bf350@egec.pro>', '/var/lib/egec/mail/new/1795918476.159c55bf7b6c4037.host', NULL, '2026-11-29 02:14:35.958+00', '2026-11-29 02:14:36.14+00', '2026-12-29 02:14:35.958+00', NULL, 'egec', NULL, NULL);
INSERT INTO public.credential VALUES (3, 2, 1, 'superseded', '$2b$04$1U2YY/PzUg35YBMJlCj.COmPnY.IUsU.Xkf112fuGEjskB3inHQMO', 1, '<2.8fab537d5df65c45b78e5d01@egec.pro>', '/var/lib/egec/mail/new/1795918453.c75b21be28b5e613.host', NULL, '2026-11-29 02:14:12.849+00', '2026-11-29 02:14:13.376+00', '2026-12-29 02:14:12.849+00', NULL, 'egec', NULL, NULL);
INSERT INTO public.credential VALUES (5, 4, 1, 'revoked', NULL, 1, NULL, NULL, NULL, '2026-11-29 02:14:12.849+00', '2026-11-29 02:14:13.707+00', '2026-12-29 02:14:12.849+00', NULL, 'egec', NULL, NULL);
INSERT INTO public.event VALUES (1, '2026-11-29 02:13:55.875+00', 'egec', 'host', 'client.create', 1, NULL, 'created', '{}');
INSERT INTO public.event VALUES (2, '2026-11-29 02:13:59.225+00', 'egec', 'host', 'client.create', 2, NULL, 'created', '{}');
INSERT INTO public.event VALUES (3, '2026-11-29 02:14:01.607+00', 'egec', 'host', 'client.create', 3, NULL, 'created', '{}');
INSERT INTO public.event VALUES (5, '2026-11-29 02:14:07.147+00', 'egec', 'host', 'client.import', NULL, NULL, 'started', '{}');
INSERT INTO public.event VALUES (6, '2026-11-29 02:14:07.453+00', 'egec', 'host', 'client.import', NULL, NULL, 'done', '{"rows": {"created": 1, "rejected": 0, "skipped": 0, "updated": 0}}');
INSERT INTO public.event VALUES (7, '2026-11-29 02:14:10.289+00', 'egec', 'host', 'reissue.start', NULL, 1, 'recorded', '{"clients": 4}');
INSERT INTO public.event VALUES (8, '2026-11-29 02:14:13.539+00', 'egec', 'host', 'credential.issue', 2, 1, 'accepted', '{"sequence": 1}');
INSERT INTO public.event VALUES (9, '2026-11-29 02:14:13.539+00', 'egec', 'host', 'credential.issue', 1, 1, 'accepted', '{"sequence": 1}');
INSERT INTO public.event VALUES (11, '2026-11-29 02:14:13.764+00', 'egec', 'host', 'credential.issue', 3, 1, 'accepted', '{"sequence": 1}');
INSERT INTO public.event VALUES (12, '2026-11-29 02:14:13.847+00', 'egec', 'host', 'reissue.finish', NULL, 1, 'done', '{}');
INSERT INTO public.event VALUES (13, '2026-11-29 02:14:17.316+00', 'egec', 'host', 'credential.show', 1, NULL, 'started', '{"sequence": 2}');
INSERT INTO public.event VALUES (14, '2026-11-29 02:14:17.349+00', 'egec', 'host', 'credential.issue', 1, NULL, 'accepted', '{"mailed": false, "sequence": 2}');
INSERT INTO public.event VALUES (15, '2026-11-29 02:14:19.487+00', 'egec', 'host', 'login', 1, NULL, 'accepted', '{"reason": "accepted"}');
INSERT INTO public.event VALUES (16, '2026-11-29 02:14:21.512+00', 'egec', 'host', 'login', 2, NULL, 'refused', '{"origin": "083b07aebed5", "reason": "wrong_password"}');
INSERT INTO public.event VALUES (17, '2026-11-29 02:14:23.951+00', 'egec', 'host', 'login', 2, NULL, 'refused', '{"origin": "083b07aebed5", "reason": "wrong_password"}');
INSERT INTO public.event VALUES (18, '2026-11-29 02:14:26.256+00', 'egec', 'host', 'login', 2, NULL, 'refused', '{"origin": "083b07aebed5", "reason": "wrong_password"}');
INSERT INTO public.event VALUES (19, '2026-11-29 02:14:28.733+00', 'egec', 'host', 'login', 2, NULL, 'refused', '{"origin": "083b07aebed5", "reason": "wrong_password"}');
INSERT INTO public.event VALUES (20, '2026-11-29 02:14:30.924+00', 'egec', 'host', 'login', 2, NULL, 'refused', '{"origin": "083b07aebed5", "reason": "wrong_password"}');
INSERT INTO public.event VALUES (21, '2026-11-29 02:14:32.965+00', 'egec', 'host', 'login', 2, NULL, 'refused', '{"origin": "083b07aebed5", "reason": "waiting"}');
INSERT INTO public.event VALUES (22, '2026-11-29 02:14:36.204+00', 'egec', 'host', 'credential.issue', 2, NULL, 'accepted', '{"sequence": 2}');
INSERT INTO public.event VALUES (23, '2026-11-29 02:14:36.227+00', 'egec', 'host', 'client.request', 2, NULL, 'accepted', '{"origin": "083b07aebed5", "sequence": 2}');
INSERT INTO public.event VALUES (24, '2026-11-29 02:14:38.652+00', 'egec', 'host', 'login', 2, NULL, 'refused', '{"origin": "083b07aebed5", "reason": "wrong_password"}');
INSERT INTO public.event VALUES (25, '2026-11-29 02:14:40.257+00', 'egec', 'host', 'login', 2, NULL, 'refused', '{"origin": "083b07aebed5", "reason": "wrong_password"}');
INSERT INTO public.event VALUES (26, '2026-11-29 02:14:43.114+00', 'egec', 'host', 'client.update', 2, NULL, 'updated', '{"fields": ["email"]}');
INSERT INTO public.event VALUES (27, '2026-11-29 02:14:43.343+00', 'egec', 'host', 'client.notice', 2, NULL, 'accepted', '{"message_id": "<0.bb5767dfee1a7aeeac8af9f8@egec.pro>"}');
INSERT INTO public.event VALUES (28, '2026-11-29 02:14:45.911+00', 'egec', 'host', 'client.disable', 3, NULL, 'disabled', '{"reason": "left"}');
INSERT INTO public.event VALUES (4, '2026-11-29 02:14:04.244+00', 'egec', 'host', 'client.create', 4, NULL, 'created', '{}');
INSERT INTO public.event VALUES (10, '2026-11-29 02:14:13.764+00', 'egec', 'host', 'credential.issue', 4, 1, 'accepted', '{}');
INSERT INTO public.event VALUES (29, '2026-11-29 02:14:48.602+00', 'egec', 'host', 'client.erase', 4, NULL, 'erased', '{}');
INSERT INTO public.installation VALUES (1, 'highest_hash_cost', '4');
INSERT INTO public.installation VALUES (2, 'origin_key', '3a30d96f6b439434e3653dea0ee171a08c2cd5bb84443faa07a1ece9e977987d');
INSERT INTO public.mail_count VALUES (2, '2026-11-29 02:14:36.14+00', 1, NULL);
INSERT INTO public.rate_count VALUES (7, 'request 083b07aebed5', '1795918475761', 0, '2026-11-29 03:14:35.761+00');
INSERT INTO public.rate_count VALUES (8, 'request client 2', '1795918475825', 0, '2026-11-30 02:14:35.825+00');
INSERT INTO public.rate_count VALUES (1, 'login 083b07aebed5', '1795918461309 1795918463820 1795918466138 1795918468661 1795918470779 1795918472869 1795918478522 1795918480152', 0, '2026-11-29 03:14:40.152+00');
INSERT INTO public.reissue_item VALUES (2, 1, 2, 'accepted', 0, NULL, NULL, '2026-11-29 02:14:10.273+00', NULL, NULL, NULL, NULL);
INSERT INTO public.reissue_item VALUES (1, 1, 1, 'accepted', 0, NULL, NULL, '2026-11-29 02:14:10.273+00', NULL, NULL, NULL, NULL);
INSERT INTO public.reissue_item VALUES (3, 1, 3, 'accepted', 0, NULL, NULL, '2026-11-29 02:14:10.273+00', NULL, NULL, NULL, NULL);
INSERT INTO public.reissue_item VALUES (4, 1, 4, 'accepted', 0, NULL, NULL, '2026-11-29 02:14:10.273+00', NULL, NULL, NULL, NULL);
INSERT INTO public.reissue_run VALUES (1, 'spring-2026', '{"everyone": true}', 'done', '{"rate": null, "sentence": ""}', '2026-11-29 02:14:10.273+00', '2026-11-29 02:15:12.752+00', '2026-11-29 02:14:13.842+00', NULL, 0, NULL);
INSERT INTO public.schema_migration VALUES (1, '0001_initial', '2026-11-29 02:13:51.160819');
INSERT INTO public.schema_migration VALUES (2, '0002_bounces', '2026-11-29 02:13:51.203271');
INSERT INTO public.schema_migration VALUES (3, '0003_promises', '2026-11-29 02:13:51.333373');
INSERT INTO public.schema_migration VALUES (4, '0004_providers', '2026-11-29 02:13:51.46726');
INSERT INTO public.schema_migration VALUES (5, '0005_door', '2026-11-29 02:13:51.54271');
SELECT pg_catalog.setval('public.client_id_seq', 5, true);
SELECT pg_catalog.setval('public.credential_id_seq', 7, true);
SELECT pg_catalog.setval('public.event_id_seq', 29, true);
SELECT pg_catalog.setval('public.installation_id_seq', 2, true);
SELECT pg_catalog.setval('public.login_place_id_seq', 1, false);
SELECT pg_catalog.setval('public.mail_count_id_seq', 2, true);
SELECT pg_catalog.setval('public.mail_pace_id_seq', 1, false);
SELECT pg_catalog.setval('public.rate_count_id_seq', 10, true);
SELECT pg_catalog.setval('public.reissue_item_id_seq', 4, true);
SELECT pg_catalog.setval('public.reissue_run_id_seq', 1, true);
SELECT pg_catalog.setval('public.schema_migration_id_seq', 5, true);
ALTER TABLE ONLY public.client
    ADD CONSTRAINT client_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.credential
    ADD CONSTRAINT credential_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.login_place
    ADD CONSTRAINT login_place_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.mail_count
    ADD CONSTRAINT mail_count_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.mail_pace
    ADD CONSTRAINT mail_pace_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.rate_count
    ADD CONSTRAINT rate_count_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.reissue_item
    ADD CONSTRAINT reissue_item_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.reissue_run
    ADD CONSTRAINT reissue_run_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (id);
CREATE INDEX client_created_at_id ON public.client USING btree (created_at, id);
CREATE UNIQUE INDEX client_email_key ON public.client USING btree (email_key);
CREATE UNIQUE INDEX client_identifier ON public.client USING btree (identifier);
CREATE INDEX client_last_login_at_id ON public.client USING btree (last_login_at, id);
CREATE INDEX client_last_name_id ON public.client USING btree (last_name, id);
CREATE UNIQUE INDEX client_reference ON public.client USING btree (reference);
CREATE INDEX credential_client_id ON public.credential USING btree (client_id);
CREATE UNIQUE INDEX credential_client_id_sequence ON public.credential USING btree (client_id, sequence);
CREATE INDEX credential_run_id ON public.credential USING btree (run_id);
CREATE INDEX event_client_id_id ON public.event USING btree (client_id, id);
CREATE INDEX event_run_id ON public.event USING btree (run_id);
CREATE UNIQUE INDEX installation_name ON public.installation USING btree (name);
CREATE INDEX item_held ON public.reissue_item USING btree (run_id) WHERE (state = ANY (ARRAY['working'::text, 'sent'::text]));
CREATE INDEX item_waiting ON public.reissue_item USING btree (run_id, not_before, id) WHERE (state = 'waiting'::text);
CREATE INDEX loginplace_client_id ON public.login_place USING btree (client_id);
CREATE INDEX mailcount_ends_at_mails ON public.mail_count USING btree (ends_at, mails);
CREATE INDEX ratecount_ends_at ON public.rate_count USING btree (ends_at);
CREATE UNIQUE INDEX ratecount_subject ON public.rate_count USING btree (subject);
CREATE INDEX reissueitem_client_id ON public.reissue_item USING btree (client_id);
CREATE INDEX reissueitem_run_id ON public.reissue_item USING btree (run_id);
CREATE UNIQUE INDEX reissueitem_run_id_client_id ON public.reissue_item USING btree (run_id, client_id);
CREATE UNIQUE INDEX reissuerun_name ON public.reissue_run USING btree (name);
CREATE UNIQUE INDEX schema_migration_name ON public.schema_migration USING btree (name);
ALTER TABLE ONLY public.credential
    ADD CONSTRAINT credential_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.client(id);
ALTER TABLE ONLY public.credential
    ADD CONSTRAINT credential_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.reissue_run(id);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.client(id);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.reissue_run(id);
ALTER TABLE ONLY public.login_place
    ADD CONSTRAINT login_place_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.client(id);
ALTER TABLE ONLY public.reissue_item
    ADD CONSTRAINT reissue_item_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.client(id);
ALTER TABLE ONLY public.reissue_item
    ADD CONSTRAINT reissue_item_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.reissue_run(id);
