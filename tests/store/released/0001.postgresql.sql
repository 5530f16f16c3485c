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
    lease_until timestamp with time zone
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
    issued_by text NOT NULL
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
CREATE TABLE public.mail_pace (
    id integer NOT NULL,
    next_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.mail_pace_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.mail_pace_id_seq OWNED BY public.mail_pace.id;
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
    line integer
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
    finished_at timestamp with time zone
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
ALTER TABLE ONLY public.mail_pace ALTER COLUMN id SET DEFAULT nextval('public.mail_pace_id_seq'::regclass);
ALTER TABLE ONLY public.reissue_item ALTER COLUMN id SET DEFAULT nextval('public.reissue_item_id_seq'::regclass);
ALTER TABLE ONLY public.reissue_run ALTER COLUMN id SET DEFAULT nextval('public.reissue_run_id_seq'::regclass);
ALTER TABLE ONLY public.schema_migration ALTER COLUMN id SET DEFAULT nextval('public.schema_migration_id_seq'::regclass);
INSERT INTO public.client VALUES (2, '5079512743', 'marc@example.org', 'marc@example.org', NULL, '', '', '', '', NULL, '2026-11-25 04:55:06.505+00', '2026-11-25 04:55:06.505+00', 1, 0, 1, 0, NULL, NULL, NULL, NULL);
INSERT INTO public.client VALUES (1, '7130279332', 'jeanne@example.org', 'jeanne@example.org', 'D-2047', 'Mme', 'Élouan', 'Dupont', '', NULL, '2026-11-25 04:55:06.341+00', '2026-11-25 04:55:06.341+00', 2, 0, 2, 0, NULL, '2026-11-25 04:55:07.399+00', NULL, NULL);
INSERT INTO public.client VALUES (3, '6079512745', 'paul@example.org', 'paul@example.org', NULL, '', '', '', '', '2026-11-25 04:55:07.548+00', '2026-11-25 04:55:06.674+00', '2026-11-25 04:55:07.548+00', 1, 0, 1, 0, NULL, NULL, NULL, NULL);
INSERT INTO public.credential VALUES (3, 3, 1, 'accepted', '$2b$04$EwxB2XEVOCvnYXTdCHRkV.mu6FFh353csks.kMq8ti5SmtPPqVMT6', 1, '<45bb7e5b7e712279d4837abb0dc3779c@egec.pro>', '/var/lib/egec/mail/new/1795582506.3eb58c94f64816f1.host', NULL, '2026-11-25 04:55:06.965+00', '2026-11-25 04:55:07.033+00', '2026-12-25 04:55:06.965+00', NULL, 'egec');
INSERT INTO public.credential VALUES (2, 2, 1, 'accepted', '$2b$04$lBWnb1PdoWPnKE4edkGeRuH49MP28WxBTk0aBf166f6jYSxOh.IwW', 1, '<83e851537fa7ccfa3db492703e1e505b@egec.pro>', '/var/lib/egec/mail/new/1795582506.0968ef27c90f6f63.host', NULL, '2026-11-25 04:55:06.965+00', '2026-11-25 04:55:07.033+00', '2026-12-25 04:55:06.965+00', NULL, 'egec');
INSERT INTO public.credential VALUES (1, 1, 1, 'superseded', '$2b$04$ygcsl2m6BAtctwkKsiy2Wegm6K6rPYFB9Z.YlSC1HnXTRXnqbqaZy', 1, '<0fd26423b4f2e07f9a0858b4b6c9a183@egec.pro>', '/var/lib/egec/mail/new/1795582506.d8575cc70580e4ac.host', NULL, '2026-11-25 04:55:06.965+00', '2026-11-25 04:55:07.033+00', '2026-12-25 04:55:06.965+00', NULL, 'egec');
INSERT INTO public.credential VALUES (4, 1, 2, 'accepted', '$2b$04$B4N/4kEg7XO.OlaZ2VDC1uXST/OFzRXH0Rh9Yp.8h.8gnV/Q2/E/y', NULL, NULL, 'shown to the operator', NULL, '2026-11-25 04:55:07.259+00', '2026-11-25 04:55:07.263+00', '2026-12-25 04:55:07.259+00', '2026-11-25 04:55:07.399+00', 'egec');
INSERT INTO public.event VALUES (1, '2026-11-25 04:55:06.342+00', 'egec', 'host', 'client.create', 1, NULL, 'created', '{}');
INSERT INTO public.event VALUES (2, '2026-11-25 04:55:06.505+00', 'egec', 'host', 'client.create', 2, NULL, 'created', '{}');
INSERT INTO public.event VALUES (3, '2026-11-25 04:55:06.677+00', 'egec', 'host', 'client.create', 3, NULL, 'created', '{}');
INSERT INTO public.event VALUES (4, '2026-11-25 04:55:06.854+00', 'egec', 'host', 'reissue.start', NULL, 1, 'recorded', '{"clients": 3}');
INSERT INTO public.event VALUES (5, '2026-11-25 04:55:07.037+00', 'egec', 'host', 'credential.issue', 3, 1, 'accepted', '{"sequence": 1}');
INSERT INTO public.event VALUES (6, '2026-11-25 04:55:07.037+00', 'egec', 'host', 'credential.issue', 2, 1, 'accepted', '{"sequence": 1}');
INSERT INTO public.event VALUES (7, '2026-11-25 04:55:07.037+00', 'egec', 'host', 'credential.issue', 1, 1, 'accepted', '{"sequence": 1}');
INSERT INTO public.event VALUES (8, '2026-11-25 04:55:07.039+00', 'egec', 'host', 'reissue.finish', NULL, 1, 'done', '{}');
INSERT INTO public.event VALUES (9, '2026-11-25 04:55:07.265+00', 'egec', 'host', 'credential.issue', 1, NULL, 'accepted', '{"sequence": 2}');
INSERT INTO public.event VALUES (10, '2026-11-25 04:55:07.401+00', 'egec', 'host', 'login', 1, NULL, 'accepted', '{"reason": "accepted"}');
INSERT INTO public.event VALUES (11, '2026-11-25 04:55:07.549+00', 'egec', 'host', 'client.disable', 3, NULL, 'disabled', '{"reason": "left"}');
INSERT INTO public.reissue_item VALUES (3, 1, 3, 'accepted', 0, NULL, NULL, '2026-11-25 04:55:06.851+00', NULL, NULL, NULL);
INSERT INTO public.reissue_item VALUES (2, 1, 2, 'accepted', 0, NULL, NULL, '2026-11-25 04:55:06.851+00', NULL, NULL, NULL);
INSERT INTO public.reissue_item VALUES (1, 1, 1, 'accepted', 0, NULL, NULL, '2026-11-25 04:55:06.851+00', NULL, NULL, NULL);
INSERT INTO public.reissue_run VALUES (1, 'spring-2026', '{"everyone": true}', 'done', '{"rate": null}', '2026-11-25 04:55:06.851+00', '2026-11-25 04:56:06.918+00', '2026-11-25 04:55:07.039+00');
INSERT INTO public.schema_migration VALUES (1, '0001_initial', '2026-11-25 04:55:06.17512');
SELECT pg_catalog.setval('public.client_id_seq', 3, true);
SELECT pg_catalog.setval('public.credential_id_seq', 4, true);
SELECT pg_catalog.setval('public.event_id_seq', 11, true);
SELECT pg_catalog.setval('public.mail_pace_id_seq', 1, false);
SELECT pg_catalog.setval('public.reissue_item_id_seq', 3, true);
SELECT pg_catalog.setval('public.reissue_run_id_seq', 1, true);
SELECT pg_catalog.setval('public.schema_migration_id_seq', 1, true);
ALTER TABLE ONLY public.client
    ADD CONSTRAINT client_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.credential
    ADD CONSTRAINT credential_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.mail_pace
    ADD CONSTRAINT mail_pace_pkey PRIMARY KEY (id);
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
CREATE INDEX item_held ON public.reissue_item USING btree (run_id) WHERE (state = ANY (ARRAY['working'::text, 'sent'::text]));
CREATE INDEX item_waiting ON public.reissue_item USING btree (run_id, not_before, id) WHERE (state = 'waiting'::text);
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
ALTER TABLE ONLY public.reissue_item
    ADD CONSTRAINT reissue_item_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.client(id);
ALTER TABLE ONLY public.reissue_item
    ADD CONSTRAINT reissue_item_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.reissue_run(id);
