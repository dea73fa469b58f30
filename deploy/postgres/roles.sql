-- Grant each program only the rights that it needs on the ledger.
--
-- Run this file as the owner of the ledger, the only role that migrates it, after each `fundus db upgrade`:
--     psql "$OWNER_URL" --single-transaction --set ON_ERROR_STOP=1 --file deploy/postgres/roles.sql
-- Then create a separate login for each program:
--     CREATE ROLE clinic_worker LOGIN PASSWORD '...' IN ROLE fundus_worker;
-- A worker that runs beat's tasks also needs fundus_producer for nightly, fundus_keeper for close-nights and retention,
-- and fundus_publisher for publish. With cron, each command has a separate login. A worker that writes reports (FUNDUS_REPORTS) also needs
-- fundus_reader, because reports contain patient ids.

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['fundus_producer', 'fundus_worker', 'fundus_reader', 'fundus_keeper', 'fundus_console', 'fundus_publisher'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public
    FROM PUBLIC, fundus_producer, fundus_worker, fundus_reader, fundus_keeper, fundus_console, fundus_publisher;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public
    FROM PUBLIC, fundus_producer, fundus_worker, fundus_reader, fundus_keeper, fundus_console, fundus_publisher;
GRANT USAGE ON SCHEMA public TO fundus_producer, fundus_worker, fundus_reader, fundus_keeper, fundus_console, fundus_publisher;

-- All programs: check the schema revision, and write to the audit log.
GRANT SELECT ON alembic_version, compatibility TO fundus_producer, fundus_worker, fundus_reader, fundus_keeper, fundus_console, fundus_publisher;
GRANT INSERT ON audit TO fundus_producer, fundus_worker, fundus_reader, fundus_keeper, fundus_console, fundus_publisher;
GRANT USAGE ON SEQUENCE audit_audit_id_seq TO fundus_producer, fundus_worker, fundus_reader, fundus_keeper, fundus_console, fundus_publisher;

-- Producer: enqueue, nightly, resend, cancel, hold, status.
GRANT SELECT, INSERT, UPDATE ON runs, images, gradings, nights, sightings, locks, reports TO fundus_producer;
GRANT SELECT ON models, workers, site_acceptances, outbox TO fundus_producer;
GRANT USAGE ON SEQUENCE runs_run_id_seq TO fundus_producer;

-- Worker: reads the URI and SHA-256 of an image, but not its patient id or eye.
GRANT SELECT (image_id, uri, sha256) ON images TO fundus_worker;
GRANT SELECT (run_id, name, state, queue, chunk_size, model_id, precision, source) ON runs TO fundus_worker;
GRANT UPDATE (state, finished_at, model_id) ON runs TO fundus_worker;
GRANT SELECT ON gradings TO fundus_worker;
GRANT UPDATE (
    status, attempts, refusals, lease_token, due_at, grade, p_ge0, p_ge1, p_ge2, p_ge3, p_ge4, referable, flags,
    disagreement, unfamiliarity, saliency, evidence, evidence_scale, model_id, configuration_id, overlay_key,
    content_sha256, content_version, error_code, error_detail, settled_at, leased_at
) ON gradings TO fundus_worker;
GRANT SELECT (model_id, name), INSERT ON models TO fundus_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO fundus_worker;
GRANT SELECT (configuration_id), INSERT ON inference_configurations TO fundus_worker;
GRANT SELECT, INSERT, UPDATE ON locks, reports TO fundus_worker;
-- An outcome enqueues its publications (FUNDUS_PUBLISH).
GRANT SELECT (outbox_id), INSERT ON outbox TO fundus_worker;
GRANT USAGE ON SEQUENCE outbox_outbox_id_seq TO fundus_worker;

-- Reader: status, export, audit, report, evaluate, drift.
GRANT SELECT ON runs, images, gradings, models, inference_configurations, nights, reports, audit, workers, duties TO fundus_reader;
GRANT SELECT ON site_acceptances TO fundus_reader;
GRANT SELECT ON reviews, decisions, withdrawals, reading_rules, photograph_views, outbox TO fundus_reader;

-- Console: adds decisions and changes none. Only the owner manages users (`fundus console user`), and accepts models for
-- sites (`fundus accept`).
GRANT SELECT ON runs, images, gradings, models, inference_configurations, decisions, withdrawals, workers, site_acceptances TO fundus_console;
GRANT SELECT (name, role, password_hash, disabled_at) ON users TO fundus_console;
GRANT SELECT, INSERT, UPDATE (seen_at), DELETE ON sessions TO fundus_console;
GRANT SELECT, INSERT, DELETE ON sign_in_attempts TO fundus_console;
GRANT SELECT, INSERT, UPDATE ON reading_rules, reviews, reader_images TO fundus_console;
GRANT INSERT ON decisions, withdrawals, photograph_views TO fundus_console;
-- A decision makes the run's report outdated.
GRANT SELECT (run_id, written_at, due_at), UPDATE (due_at, lease_token, attempts) ON reports TO fundus_console;
GRANT USAGE ON SEQUENCE
    decisions_decision_id_seq, sign_in_attempts_attempt_id_seq, photograph_views_view_id_seq TO fundus_console;
-- A decision is published (FUNDUS_PUBLISH).
GRANT SELECT, INSERT ON outbox TO fundus_console;
GRANT USAGE ON SEQUENCE outbox_outbox_id_seq TO fundus_console;

-- Keeper: close-nights, retention, erase. The only role that deletes images and outcomes; it cannot set or release a hold.
GRANT SELECT ON runs, images, gradings, models, inference_configurations, nights, site_acceptances TO fundus_keeper;
-- The report of a night contains the final grades.
GRANT SELECT ON reviews, decisions, withdrawals, reading_rules, reader_images TO fundus_keeper;
GRANT UPDATE (closed_at, verdict, findings, told_at) ON nights TO fundus_keeper;
GRANT UPDATE (overlay_key, retired_key, overlay_retired_at, status, settled_at, lease_token) ON gradings TO fundus_keeper;
GRANT DELETE ON gradings, images, reviews, reader_images TO fundus_keeper;
GRANT SELECT, DELETE ON photograph_views TO fundus_keeper;
-- A trigger refuses every change but an emptied reason.
GRANT UPDATE (reason) ON decisions TO fundus_keeper;
GRANT SELECT, DELETE, UPDATE (due_at, lease_token, attempts, written_at) ON reports TO fundus_keeper;
-- Erasure lists the exports that may still contain the patient.
GRANT SELECT (audit_id, action, run, details) ON audit TO fundus_keeper;
GRANT SELECT, INSERT, UPDATE ON locks, duties TO fundus_keeper;
-- Erasure also withdraws what is not published yet.
GRANT SELECT, DELETE, UPDATE (lease_token) ON outbox TO fundus_keeper;

-- Publisher: publish. It reads outcomes and decisions, but no patient id.
GRANT SELECT ON runs, gradings, models, inference_configurations, reviews, decisions, withdrawals, reading_rules TO fundus_publisher;
GRANT SELECT (image_id, uri, eye, sha256) ON images TO fundus_publisher;
GRANT SELECT, INSERT, UPDATE ON outbox, duties, locks TO fundus_publisher;
GRANT USAGE ON SEQUENCE outbox_outbox_id_seq TO fundus_publisher;
