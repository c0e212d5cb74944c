"""The technical floor: database, settings, scope, events, jobs, audit, i18n, web plumbing."""
