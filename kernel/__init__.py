"""The technical floor: database, errors, settings, scope, events, jobs, audit, i18n, web plumbing."""
