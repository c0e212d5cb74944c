#!/usr/bin/env python3
"""Interleaved repeats of bench_store.py over peers/variants.  Appends JSON lines to --out.
  matrix.py --names orth12,storescpB --assoc 1,4,8 --reps 3 --n 600 --dir corpus/ct --out results/ingest_ct.jsonl
"""
import argparse, json, os, subprocess, sys, peers
HERE = os.path.dirname(os.path.abspath(__file__))
ap = argparse.ArgumentParser(); A = ap.add_argument
A('--names', required=True); A('--assoc', default='1,4,8'); A('--reps', type=int, default=3); A('--n', type=int, default=600)
A('--dir', action='append', default=[]); A('--out', required=True); A('--port', type=int, default=11200); A('--max-pdu', default='0'); A('--slow-n', type=int, default=150)
a = ap.parse_args(); os.makedirs(os.path.dirname(a.out) or '.', exist_ok=True); port = a.port
for rep in range(a.reps):
    for assoc in map(int, a.assoc.split(',')):
        for nm in a.names.split(','):
            name, label, extra = (nm.split(':') + ['', ''])[:3]; port = a.port + (port - a.port + 3) % 600; d = f'{peers.HOME}/store/{label or name}_{port}'
            n = a.slow_n if name.startswith('pnd_q') or name in ('orth10', 'orth12', 'storescp') else a.n
            try:
                p = peers.start(name, port, d, extra=extra.split())
                r = subprocess.run([sys.executable, f'{HERE}/bench_store.py', '--port', str(port), '--aet', peers.aet(name), '--assoc', str(assoc), '--n', str(n),
                                    '--pid', str(p.pid), '--label', label or name, '--max-pdu', a.max_pdu] + sum((['--dir', x] for x in a.dir or ['corpus/ct']), []), capture_output=True, text=True, timeout=240)
                line = (r.stdout.strip() or json.dumps(dict(label=label or name, error=r.stderr[-300:]))); open(a.out, 'a').write(line + '\n'); print(line[:330], flush=True)
            except (SystemExit, subprocess.TimeoutExpired) as e: print(name, 'ERR', str(e)[:300], flush=True)
            finally:
                try: peers.stop(p, d)
                except NameError: pass
