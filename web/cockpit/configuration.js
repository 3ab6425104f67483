// Reads and writes the two configuration files, never over a version that was not read.

const FILES = ['network', 'mproutd'];

export class Configuration {
	constructor(directory) {
		this.directory = directory;
	}

	path(name) {
		return this.directory + '/' + name;
	}

	handle(name) {
		return cockpit.file(this.path(name), { superuser: 'try' });
	}

	/* The text (null for a missing file) and the tag of this version. */
	read(name) {
		return new Promise((resolve, reject) => {
			this.handle(name).read()
				.then((text, tag) => resolve({ name, text, tag }))
				.catch(reject);
		});
	}

	async readAll() {
		return Promise.all(FILES.map(name => this.read(name)));
	}

	/* Replaces the version that `tag` names; rejects if the file has changed since. */
	replace(name, text, tag) {
		return new Promise((resolve, reject) => {
			this.handle(name).replace(text, tag).then(resolve).catch(reject);
		});
	}
}
