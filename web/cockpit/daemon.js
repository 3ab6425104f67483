// The daemon by its control socket, and the command `mproutd` for what changes something.

const SOCKET = '/run/mproutd/control.sock';

/* Since Debian 13 the bridge calls each failure to connect "terminated", and adds the errno. */
const CONNECT_ERRORS = { 2: 'not-found', 13: 'access-denied', 111: 'not-found' };

function problemOf({ problem, message }) {
	const errno = /^\[Errno (\d+)\]/.exec(message || '');
	return problem === 'terminated' && errno && CONNECT_ERRORS[errno[1]] || problem;
}

/* One question by the control socket; no process is started.  Rejects with a `problem`. */
function request(question) {
	return new Promise((resolve, reject) => {
		const channel = cockpit.channel({ payload: 'stream', unix: SOCKET, superuser: 'try' });
		let answer = '';
		channel.addEventListener('message', (event, data) => { answer += data; });
		channel.addEventListener('close', (event, options) => {
			const problem = problemOf(options);
			if (problem)
				reject({ problem, message: options.message || cockpit.message(problem) });
			else
				resolve(answer);
		});
		channel.send(JSON.stringify(question) + '\n');
		channel.control({ command: 'done' });
	});
}

function parse(text) {
	try {
		return JSON.parse(text);
	} catch {
		throw { problem: 'protocol-error', message: '' };
	}
}

/* Runs `mproutd` with these arguments; `status` is null where it could not be run. */
function run(...words) {
	return new Promise(resolve => {
		cockpit.spawn(['mproutd', ...words], { superuser: 'try', err: 'message' })
			.then(out => resolve({ status: 0, out, message: '', problem: null }))
			.catch((error, out) => resolve({
				status: typeof error.exit_status === 'number' ? error.exit_status : null,
				out: out || '',
				message: (error.message || '').replace('mproutd: ', ''),
				problem: error.problem || null,
			}));
	});
}

/* Asks the daemon; where none is running, the command, which finds out by itself. */
async function ask(name) {
	try {
		return parse(await request({ command: name }));
	} catch (error) {
		if (error.problem !== 'not-found')
			throw error;
	}
	const { status, out, message, problem } = await run(name, '--json');
	if (status === null || !out)
		throw { problem: problem || 'not-running', message };
	return parse(out);
}

export function readStatus() {
	return ask('status');
}

export function readConnections() {
	return ask('connections');
}

/* What a reconcile does, or with `dry` would do: { changes } or { refused }. */
export async function reconcile(dry) {
	const { out, message, problem } = await run('reconcile', '--json', ...(dry ? ['--dry-run'] : []));
	if (out)
		return parse(out);
	return { refused: message || problem };
}
