# Completion of mproutd for bash.  Goes to /usr/share/bash-completion/completions/mproutd.

# The uplinks of the configuration that the command line names, one per line.
_mproutd_uplinks() {
	local at directory=''
	for ((at = 1; at < COMP_CWORD; at++)); do
		[[ ${COMP_WORDS[at]} == --config-dir ]] || continue
		directory=${COMP_WORDS[at + 1]}
		[[ $directory != '=' ]] || directory=${COMP_WORDS[at + 2]}
	done
	# DIR: wan1 master, wan2 on; …
	mproutd check ${directory:+--config-dir "${directory/#~\//"$HOME/"}"} 2>/dev/null |
		sed -e 's/.*: //' -e 's/;.*//' -e '/^no uplink/d' | tr ',' '\n' | sed 's/^ *\([^ ]*\).*/\1/'
}

_mproutd() {
	local at command='' common='--config-dir --runtime-dir --help -h'
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local commands='run status reconcile connections monitor top metrics explain test check standby quota import flush files'
	COMPREPLY=()

	# Bash splits --option=value at the =.
	[[ $word != '=' ]] || { word='' before=${COMP_WORDS[COMP_CWORD - 1]}; }
	[[ $before != '=' ]] || before=${COMP_WORDS[COMP_CWORD - 2]}

	for ((at = 1; at < COMP_CWORD; at++)); do
		[[ " $commands " != *" ${COMP_WORDS[at]} "* ]] || { command=${COMP_WORDS[at]} && break; }
	done

	case $before in
		--config-dir | --runtime-dir | --state-dir | --root | --pair)
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -d -- "$word")
			return
			;;
		--output)
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -- "$word")
			return
			;;
		--user)
			mapfile -t COMPREPLY < <(compgen -u -- "$word")
			return
			;;
		--iif)
			mapfile -t COMPREPLY < <(compgen -W "$(command ls /sys/class/net)" -- "$word")
			return
			;;
		--proto)
			mapfile -t COMPREPLY < <(compgen -W 'tcp udp icmp icmpv6' -- "$word")
			return
			;;
		--by)
			mapfile -t COMPREPLY < <(compgen -W 'peer port' -- "$word")
			return
			;;
		--from | --port | --sport | --uid | --mac | --dscp | --mark) return ;;
		--listen | --to | --timeout | --set) return ;;
	esac
	local words=''
	case $command+$word in
		+-*) words='--version --help -h' ;;
		+*) words=$commands ;;
		run+-*) words="--verbose --syslog --state-dir $common" ;;
		status+-*) words="--json --usable $common" ;;
		reconcile+-*) words="--dry-run --json $common" ;;
		connections+-*) words="--by --json $common" ;;
		monitor+-*) words="--json $common" ;;
		top+-*) words=$common ;;
		metrics+-*) words="--output --listen $common" ;;
		explain+-*)
			words="--from --to --proto --port --sport --iif --uid --user --mac --dscp --mark --json"
			words+=" $common"
			;;
		test+-*) words="--to --listen -4 -6 --timeout --json $common" ;;
		check+-*) words="--enabled --pair $common" ;;
		standby+-*) words=$common ;;
		quota+-*) words="--set --reset $common" ;;
		import+-*) words=$common ;;
		flush+-*) words="--force $common" ;;
		files+-*) words="--install --remove --root $common" ;;
		status+* | test+* | quota+*) words=$(_mproutd_uplinks) ;;
		standby+*) words='on off' ;;
		import+*)
			words='mwan3 pbr openmptcprouter'
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(
				compgen -W "$words" -- "$word"
				compgen -d -- "$word"
			)
			return
			;;
		check+*)
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -d -- "$word")
			return
			;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _mproutd mproutd
