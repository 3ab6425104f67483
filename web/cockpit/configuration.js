// The two configuration files.  A file is written only over the text that was read.

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

	/* The text (null: there is no file) and the tag that stands for it. */
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

	/* Rejects with the problem `out-of-date` if it is another file by now. */
	replace(name, text, tag) {
		return new Promise((resolve, reject) => {
			this.handle(name).replace(text, tag).then(resolve).catch(reject);
		});
	}
}
