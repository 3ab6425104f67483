// Made by packaging/messages.py.
cockpit.locale({
	"": { "language": "de", "plural-forms": n => n !== 1 },
	"Apply":
		[null, "Anwenden"],
	"Cancel":
		[null, "Abbrechen"],
	"Close":
		[null, "Schließen"],
	"Connections":
		[null, "Verbindungen"],
	"Device":
		[null, "Gerät"],
	"Drift, repairing: {command}":
		[null, "Abweichung, wird behoben: {command}"],
	"Drift: {command}":
		[null, "Abweichung: {command}"],
	"Edit {file}…":
		[null, "{file} bearbeiten …"],
	"Everything is as configured.":
		[null, "Alles ist wie konfiguriert."],
	"Flows":
		[null, "Flüsse"],
	"Health":
		[null, "Prüfung"],
	"In":
		[null, "Ein"],
	"Its status has version {version}. Reload the page. If this does not help, install the page and the daemon from the same release.":
		[null, "Sein Status hat Version {version}. Laden Sie die Seite neu. Hilft das nicht, installieren Sie Seite und Dienst aus demselben Release."],
	"Last script ({event})":
		[null, "Letztes Skript ({event})"],
	"Limited access: turn on administrative access to change anything.":
		[null, "Eingeschränkter Zugriff: Zum Ändern bitte den administrativen Zugriff einschalten."],
	"Loading…":
		[null, "Wird geladen …"],
	"Local address":
		[null, "Lokale Adresse"],
	"Mode":
		[null, "Modus"],
	"Mode in use":
		[null, "Benutzter Modus"],
	"Mode of {uplink}":
		[null, "Modus von {uplink}"],
	"Multipath is not enabled.":
		[null, "Multipath ist nicht eingeschaltet."],
	"No section of the configuration is {uplink}.":
		[null, "Kein Abschnitt der Konfiguration heißt {uplink}."],
	"No uplink is configured.":
		[null, "Es ist kein Uplink konfiguriert."],
	"Notes":
		[null, "Anmerkungen"],
	"Nothing would change in the kernel.":
		[null, "Im Kernel würde sich nichts ändern."],
	"Only root and members of the group mproutd are allowed to. Turn on administrative access, or log in as such a user.":
		[null, "Das dürfen nur root und Mitglieder der Gruppe mproutd. Schalten Sie den administrativen Zugriff ein oder melden Sie sich entsprechend an."],
	"Other traffic":
		[null, "Übriger Verkehr"],
	"Out":
		[null, "Aus"],
	"Overflow":
		[null, "Überlauf"],
	"Problems":
		[null, "Probleme"],
	"Problems: {count}":
		[null, "Probleme: {count}"],
	"Quota":
		[null, "Kontingent"],
	"RTT":
		[null, "RTT"],
	"Rates of the last {count} updates, at most {rate}":
		[null, "Raten der letzten {count} Aktualisierungen, höchstens {rate}"],
	"Reconcile":
		[null, "Abgleichen"],
	"Reconcile…":
		[null, "Abgleichen …"],
	"Route lookups":
		[null, "Routenabfragen"],
	"Routed by the main table.":
		[null, "Nach der Haupttabelle."],
	"Routes":
		[null, "Routen"],
	"Routes and rules":
		[null, "Routen und Regeln"],
	"Rules":
		[null, "Regeln"],
	"Save":
		[null, "Speichern"],
	"Show all {count}":
		[null, "Alle {count} zeigen"],
	"Some changes failed":
		[null, "Einige Änderungen sind fehlgeschlagen"],
	"State":
		[null, "Zustand"],
	"Subflows to {address}":
		[null, "Subflows zu {address}"],
	"Table {table}":
		[null, "Tabelle {table}"],
	"The action failed.":
		[null, "Die Aktion ist fehlgeschlagen."],
	"The configuration was refused":
		[null, "Die Konfiguration wurde abgelehnt"],
	"The configuration would be refused":
		[null, "Die Konfiguration würde abgelehnt"],
	"The connections cannot be listed.":
		[null, "Die Verbindungen lassen sich nicht auflisten."],
	"The daemon and this page have different versions.":
		[null, "Der Dienst und diese Seite haben verschiedene Versionen."],
	"The file has changed since it was read. Start again with the current version.":
		[null, "Die Datei hat sich geändert, seit sie gelesen wurde. Bitte mit ihrem jetzigen Stand neu beginnen."],
	"The peer or a middlebox does not support MPTCP.":
		[null, "Die Gegenstelle oder eine Middlebox unterstützt MPTCP nicht."],
	"There is no MPTCP connection.":
		[null, "Es gibt keine MPTCP-Verbindung."],
	"These commands would be executed:":
		[null, "Diese Befehle würden ausgeführt:"],
	"Total":
		[null, "Summe"],
	"Undo":
		[null, "Zurücknehmen"],
	"Uplink":
		[null, "Uplink"],
	"Uplinks":
		[null, "Uplinks"],
	"You are not allowed to read the status of mproutd.":
		[null, "Sie dürfen den Status von mproutd nicht lesen."],
	"`{option}` is {value}, but the kernel's limit was {limit} before mproutd, which lowers none: {limit} applies":
		[null, "`{option}` ist {value}, aber die Grenze des Kernels war vor mproutd {limit}; mproutd senkt keine: es gilt {limit}"],
	"a new period in {duration}":
		[null, "neuer Zeitraum in {duration}"],
	"a rule with a higher priority matches first (ip rule); move or narrow it":
		[null, "eine Regel mit höherem Vorrang greift zuerst (ip rule); sie verschieben oder einschränken"],
	"add a default route of that family via DEVICE, or set `gateway` (IPv6: `gateway6`); with net.ipv6.conf.DEVICE.forwarding=1, router advertisements count only with accept_ra=2":
		[null, "eine Default-Route dieser Familie über DEVICE anlegen, oder `gateway` (IPv6: `gateway6`) setzen; mit net.ipv6.conf.DEVICE.forwarding=1 zählen Router Advertisements nur bei accept_ra=2"],
	"and {count} others":
		[null, "und {count} weitere"],
	"another host on the link has the same address: change one of them":
		[null, "ein anderer Host auf dem Link hat dieselbe Adresse: eine von beiden ändern"],
	"another uplink has the same address and takes precedence":
		[null, "ein anderer Uplink hat dieselbe Adresse und geht vor"],
	"answers":
		[null, "antwortet"],
	"ask the provider; the uplink is used again as soon as the check passes":
		[null, "den Anbieter fragen; der Uplink ist wieder in Gebrauch, sobald die Prüfung gelingt"],
	"backup":
		[null, "Reserve"],
	"backup (peer)":
		[null, "Reserve (Gegenstelle)"],
	"cannot query netifd: {error}; its last known state stays in use":
		[null, "netifd lässt sich nicht befragen: {error}; sein zuletzt bekannter Zustand gilt weiter"],
	"carries":
		[null, "überträgt"],
	"change one of the two addresses; until then the other uplink uses it":
		[null, "eine der beiden Adressen ändern; bis dahin nutzt sie der andere Uplink"],
	"check the cable, the modem and the port at the other end":
		[null, "Kabel, Modem und den Port am anderen Ende prüfen"],
	"check what assigns one (DHCP client, pppd, router advertisements); addresses: ip address show dev DEVICE":
		[null, "prüfen, was sie vergibt (DHCP-Client, pppd, Router Advertisements); Adressen: ip address show dev DEVICE"],
	"check whether the hosts of `track_ip` answer from elsewhere; if they do, ask the provider":
		[null, "prüfen, ob die Hosts aus `track_ip` von anderswo antworten; wenn ja, den Anbieter fragen"],
	"check: ubus call network.interface dump; log: logread -e netifd":
		[null, "prüfen: ubus call network.interface dump; Protokoll: logread -e netifd"],
	"configured":
		[null, "konfiguriert"],
	"connections cannot be moved to another uplink (`flush_conntrack`, `failback`): the kernel does not list them ({error})":
		[null, "Verbindungen können nicht auf einen anderen Uplink wechseln (`flush_conntrack`, `failback`): der Kernel listet sie nicht auf ({error})"],
	"correct it, then: mproutd check && mproutd reconcile":
		[null, "berichtigen, dann: mproutd check && mproutd reconcile"],
	"delete endpoints of other programs (ip mptcp endpoint), or set the mode of an uplink to off":
		[null, "Endpunkte anderer Programme löschen (ip mptcp endpoint), oder den Modus eines Uplinks auf off setzen"],
	"differs":
		[null, "weicht ab"],
	"does not match":
		[null, "stimmt nicht"],
	"duplicate address detection failed":
		[null, "die Adresse ist auf dem Link schon vergeben"],
	"duplicate address detection is still running":
		[null, "die Prüfung auf doppelte Adressen läuft noch"],
	"endpoint {id} {flags}":
		[null, "Endpunkt {id} {flags}"],
	"failed":
		[null, "misslungen"],
	"find the program: ip monitor rule route nexthop; for a sysctl: the files in /etc/sysctl.d":
		[null, "das Programm suchen: ip monitor rule route nexthop; bei einem Sysctl: die Dateien in /etc/sysctl.d"],
	"find the program: nft monitor; a firewall's service may delete all tables (flush ruleset)":
		[null, "das Programm suchen: nft monitor; der Dienst einer Firewall kann alle Tabellen löschen (flush ruleset)"],
	"find the rule and the route: ip rule; ip route get ADDRESS":
		[null, "Regel und Route suchen: ip rule; ip route get ADDRESS"],
	"find the uplink: mproutd test UPLINK --to HOST:PORT; to end the pause: sysctl -w net.mptcp.blackhole_timeout=3600":
		[null, "den Uplink suchen: mproutd test UPLINK --to HOST:PORT; um die Pause zu beenden: sysctl -w net.mptcp.blackhole_timeout=3600"],
	"for existing connections":
		[null, "für bestehende Verbindungen"],
	"for the hosts behind":
		[null, "für die Hosts dahinter"],
	"for {duration}":
		[null, "seit {duration}"],
	"forwarded connections do not keep their uplink, and only the default uplink answers port forwards: {error}":
		[null, "weitergeleitete Verbindungen behalten ihren Uplink nicht, und Portweiterleitungen antworten nur am Standard-Uplink: {error}"],
	"give it a priority behind mproutd's source rules and before 32764 (ip rule add ... priority 10000), or narrow it; docs/beside.md has WireGuard and Tailscale":
		[null, "eine Priorität hinter den Quellregeln von mproutd und vor 32764 wählen (ip rule add ... priority 10000) oder die Regel enger fassen; WireGuard und Tailscale: docs/beside.md"],
	"hints from hooks are ignored: {error}":
		[null, "Hinweise der Hooks bleiben unbeachtet: {error}"],
	"if it is a VPN that should carry other traffic, remove its section: a better default route of a device without one wins; else raise the metric of that route":
		[null, "wenn es ein VPN ist, das den übrigen Verkehr tragen soll, seinen Abschnitt entfernen: die bessere Default-Route eines Geräts ohne Abschnitt gewinnt; sonst die Metrik dieser Route erhöhen"],
	"if it is no longer needed: ip mptcp endpoint delete id ID":
		[null, "wenn er nicht mehr gebraucht wird: ip mptcp endpoint delete id ID"],
	"if its lease is older than mproutd's hooks: ifdown DEVICE; ifup DEVICE; otherwise add a default route via DEVICE, or set `gateway` (IPv6: `gateway6`) in the configuration":
		[null, "wenn seine Lease älter ist als die Hooks von mproutd: ifdown DEVICE; ifup DEVICE; sonst eine Default-Route über DEVICE anlegen, oder `gateway` (IPv6: `gateway6`) in der Konfiguration setzen"],
	"if the gateway serves this address too, set `gateway` for the uplink; a second modem on the same port needs a device of its own: ip link add link DEVICE name NAME type macvlan mode bridge":
		[null, "wenn das Gateway auch für diese Adresse gilt, für den Uplink `gateway` setzen; ein zweites Modem am selben Port braucht ein eigenes Gerät: ip link add link DEVICE name NAME type macvlan mode bridge"],
	"if the provider counts less, enter its figure: mproutd quota UPLINK --set AMOUNT; for more volume, raise `quota`":
		[null, "wenn der Anbieter weniger zählt, dessen Wert eingeben: mproutd quota UPLINK --set MENGE; für mehr Volumen `quota` erhöhen"],
	"if this was unintended, find the program: ip monitor rule route nexthop; candidates: NetworkManager, systemd-networkd (ManageForeignRoutingPolicyRules, ManageForeignNextHops), pbr, mwan3; for a sysctl: the files in /etc/sysctl.d":
		[null, "falls unbeabsichtigt, das Programm suchen: ip monitor rule route nexthop; in Frage kommen NetworkManager, systemd-networkd (ManageForeignRoutingPolicyRules, ManageForeignNextHops), pbr, mwan3; bei einem Sysctl: /etc/sysctl.d"],
	"ifup INTERFACE; details: ifstatus INTERFACE; without netifd, set `device` in the uplink's section of the file mproutd":
		[null, "ifup INTERFACE; Näheres: ifstatus INTERFACE; ohne netifd `device` im Abschnitt des Uplinks in der Datei mproutd setzen"],
	"ifupdown":
		[null, "ifupdown"],
	"in":
		[null, "ein"],
	"ip link set DEVICE up, or ifup":
		[null, "ip link set DEVICE up, oder ifup"],
	"last known":
		[null, "zuletzt bekannt"],
	"lease":
		[null, "Lease"],
	"let that rule preserve the bits of `mark_mask` (ct mark set ct mark & 0x80ffffff | VALUE), or choose another `mark_mask`":
		[null, "die Regel soll die Bits von `mark_mask` erhalten (ct mark set ct mark & 0x80ffffff | VALUE), oder eine andere `mark_mask` wählen"],
	"let these packets follow other traffic: {command}":
		[null, "diese Pakete dem übrigen Verkehr folgen lassen: {command}"],
	"lower `subflows` or `add_addr_accepted`":
		[null, "`subflows` oder `add_addr_accepted` senken"],
	"lower the limit with ip mptcp limits set, or remove the option":
		[null, "die Grenze mit ip mptcp limits set senken oder die Option entfernen"],
	"main table":
		[null, "Haupttabelle"],
	"make sure that the runtime directory is writable and not full; the file is rewritten at the next change":
		[null, "dafür sorgen, dass das Laufzeitverzeichnis beschreibbar und nicht voll ist; die Datei wird bei der nächsten Änderung neu geschrieben"],
	"make sure that the state directory is writable and not full; after a loss, enter the provider's figure: mproutd quota UPLINK --set AMOUNT":
		[null, "sicherstellen, dass das Zustandsverzeichnis beschreibbar und nicht voll ist; nach einem Verlust den Wert des Anbieters eingeben: mproutd quota UPLINK --set MENGE"],
	"mark {mark}":
		[null, "Markierung {mark}"],
	"matches":
		[null, "stimmt"],
	"missing":
		[null, "fehlt"],
	"modprobe mptcp_diag, or use a kernel with CONFIG_INET_MPTCP_DIAG":
		[null, "modprobe mptcp_diag, oder einen Kernel mit CONFIG_INET_MPTCP_DIAG verwenden"],
	"modprobe nf_conntrack_netlink (OpenWrt: kmod-nf-conntrack-netlink)":
		[null, "modprobe nf_conntrack_netlink (OpenWrt: kmod-nf-conntrack-netlink)"],
	"move that route to a table that is looked up after main (table default), or add a default route via the device to main with a lower metric":
		[null, "diese Route in eine Tabelle verlegen, die nach main kommt (table default), oder in main eine Default-Route über das Gerät mit kleinerer Metrik anlegen"],
	"mproutd does not answer.":
		[null, "mproutd antwortet nicht."],
	"mproutd installs nothing until `multipath` is set to `enable` in the section `globals` of the file `network`.":
		[null, "mproutd legt nichts an, solange `multipath` im Abschnitt `globals` der Datei `network` nicht auf `enable` steht."],
	"mproutd is not running.":
		[null, "mproutd läuft nicht."],
	"mproutd is not running; this is what it would find when started.":
		[null, "mproutd läuft nicht; dies würde es beim Start vorfinden."],
	"mptcpd is running: it creates endpoints for all addresses, all with the same flags, and does not remove them when it stops":
		[null, "mptcpd läuft: es legt für alle Adressen Endpunkte mit denselben Flags an und entfernt sie nicht, wenn es endet"],
	"name hosts in `track_ip` that can be reached by the uplink's family, or by address instead of by name":
		[null, "in `track_ip` Hosts nennen, die in der Familie des Uplinks erreichbar sind, oder Adressen statt Namen"],
	"net.mptcp.enabled is 0: new connections do not use MPTCP":
		[null, "net.mptcp.enabled ist 0: neue Verbindungen nutzen kein MPTCP"],
	"netifd":
		[null, "netifd"],
	"netifd has not assigned a device to the interface yet":
		[null, "netifd hat der Schnittstelle noch kein Gerät zugewiesen"],
	"nftables table {table} overwrites mproutd's bits of the mark, so that connections may change their uplink: {rule}":
		[null, "die nftables-Tabelle {table} überschreibt die Bits von mproutd in der Markierung, sodass Verbindungen ihren Uplink wechseln können: {rule}"],
	"no answer":
		[null, "keine Antwort"],
	"no endpoint":
		[null, "kein Endpunkt"],
	"no gateway":
		[null, "kein Gateway"],
	"no gateway is known":
		[null, "es ist kein Gateway bekannt"],
	"no gateway needed":
		[null, "kein Gateway nötig"],
	"no route":
		[null, "keine Route"],
	"not running":
		[null, "läuft nicht"],
	"not usable":
		[null, "nicht nutzbar"],
	"of another program":
		[null, "eines anderen Programms"],
	"out":
		[null, "aus"],
	"own subnets only":
		[null, "nur eigene Subnetze"],
	"passed":
		[null, "bestanden"],
	"plain TCP":
		[null, "gewöhnliches TCP"],
	"plug it in, or correct `device` in the configuration; devices: ip link":
		[null, "einstecken, oder `device` in der Konfiguration berichtigen; Geräte: ip link"],
	"point-to-point":
		[null, "Punkt-zu-Punkt"],
	"present":
		[null, "vorhanden"],
	"quotas: {error}":
		[null, "Kontingente: {error}"],
	"renew the lease or the prefix; connections that use the address continue":
		[null, "Lease oder Präfix erneuern; Verbindungen mit dieser Adresse bestehen weiter"],
	"resolve the kernel's error: it needs nf_tables, nft_ct and nf_conntrack with CONFIG_NF_CONNTRACK_MARK; mproutd retries every minute; or set `pin_flows` '0'":
		[null, "den Fehler des Kernels beheben: nötig sind nf_tables, nft_ct und nf_conntrack mit CONFIG_NF_CONNTRACK_MARK; mproutd versucht es jede Minute erneut; oder `pin_flows` '0' setzen"],
	"resolve the kernel's error; mproutd retries until the command succeeds":
		[null, "den Fehler des Kernels beheben; mproutd versucht es, bis der Befehl gelingt"],
	"restore the route, or set `gateway` (IPv6: `gateway6`) for the uplink":
		[null, "die Route wiederherstellen, oder für den Uplink `gateway` (IPv6: `gateway6`) setzen"],
	"run only one of them: systemctl disable --now mptcp":
		[null, "nur eines von beiden betreiben: systemctl disable --now mptcp"],
	"set `download` and `upload` for each regular uplink, in kbit/s; otherwise the highest rates that mproutd sees count":
		[null, "`download` und `upload` für jeden regulären Uplink in kbit/s setzen; sonst zählen die höchsten Raten, die mproutd sieht"],
	"set `fullmesh` on an uplink that may carry them, or give such an uplink's default route in main the lowest metric; to accept none: ip mptcp limits set add_addr_accepted 0, and remove the option":
		[null, "`fullmesh` für einen Uplink setzen, der sie tragen darf, oder dessen Standardroute in main die niedrigste Metrik geben; um keine anzunehmen: ip mptcp limits set add_addr_accepted 0, und die Option entfernen"],
	"still in use: no other uplink is usable":
		[null, "weiter in Gebrauch: kein anderer Uplink ist nutzbar"],
	"sysctl -w net.mptcp.enabled=1":
		[null, "sysctl -w net.mptcp.enabled=1"],
	"sysctl -w net.mptcp.path_manager=kernel; on older kernels: sysctl -w net.mptcp.pm_type=0":
		[null, "sysctl -w net.mptcp.path_manager=kernel; auf älteren Kerneln: sysctl -w net.mptcp.pm_type=0"],
	"the address is deprecated":
		[null, "die Adresse ist abgelaufen"],
	"the configuration on disk is invalid, the previous one stays in use: {error}":
		[null, "die gespeicherte Konfiguration ist ungültig, die vorige bleibt in Gebrauch: {error}"],
	"the configured limits exceed the kernel's maximum of {limit_max}":
		[null, "die konfigurierten Grenzen liegen über dem Höchstwert des Kernels, {limit_max}"],
	"the device does not exist":
		[null, "das Gerät gibt es nicht"],
	"the device has no usable address":
		[null, "das Gerät hat keine brauchbare Adresse"],
	"the directory must belong to root and have the mode 0755":
		[null, "das Verzeichnis muss root gehören und den Modus 0755 haben"],
	"the health check failed":
		[null, "die Verbindungsprüfung ist misslungen"],
	"the kernel does not list MPTCP connections: the last path of one may be closed, and subflows that failed unnoticed are not re-established":
		[null, "der Kernel listet MPTCP-Verbindungen nicht auf: der letzte Pfad einer Verbindung kann geschlossen werden, und unbemerkt ausgefallene Subflows kehren nicht zurück"],
	"the kernel does not support MPTCP: routes and rules are maintained, endpoints are not":
		[null, "der Kernel unterstützt kein MPTCP: Routen und Regeln werden verwaltet, Endpunkte nicht"],
	"the kernel has no nexthop objects (Linux 5.3 has): a change of the uplinks that share other traffic moves some of the connections in use":
		[null, "der Kernel hat keine Nexthop-Objekte (Linux 5.3 hat sie): ändern sich die Uplinks, die sich den übrigen Verkehr teilen, wechseln einige bestehende Verbindungen den Uplink"],
	"the kernel has paused MPTCP: new connections of this machine are plain TCP, since a path dropped a SYN with MP_CAPABLE and answered one without":
		[null, "der Kernel hat MPTCP ausgesetzt: neue Verbindungen dieser Maschine sind gewöhnliches TCP, da ein Pfad ein SYN mit MP_CAPABLE verworfen und eines ohne beantwortet hat"],
	"the link has no carrier":
		[null, "kein Trägersignal"],
	"the link is down":
		[null, "die Verbindung ist abgeschaltet"],
	"the path manager is {path_manager!r}: it ignores the kernel's endpoints":
		[null, "der Path Manager ist {path_manager}: er beachtet die Endpunkte des Kernels nicht"],
	"to switch it off even then, set `quota_hard`":
		[null, "um ihn auch dann auszuschalten, `quota_hard` setzen"],
	"to {address}":
		[null, "zu {address}"],
	"unexpected":
		[null, "unerwartet"],
	"up":
		[null, "in Betrieb"],
	"use a kernel from 5.3 on, or remove the options `weight` and `metric`":
		[null, "einen Kernel ab 5.3 verwenden oder die Optionen `weight` und `metric` entfernen"],
	"use a kernel with CONFIG_MPTCP=y":
		[null, "einen Kernel mit CONFIG_MPTCP=y verwenden"],
	"use a newer kernel, or remove the option `laminar`":
		[null, "einen neueren Kernel verwenden, oder die Option `laminar` entfernen"],
	"via {gateway}":
		[null, "über {gateway}"],
	"wait: detection takes a second or two, then the address is used":
		[null, "abwarten: die Prüfung dauert ein bis zwei Sekunden, dann ist die Adresse in Gebrauch"],
	"widen `mark_mask`, or set `mark` for the uplink":
		[null, "`mark_mask` erweitern, oder für den Uplink `mark` setzen"],
	"withheld":
		[null, "zurückgehalten"],
	"{command}: {error} (attempt {attempts}; next in {retry_in:.0f} s)":
		[null, "{command}: {error} (Versuch {attempts}; der nächste in {retry_in} s)"],
	"{count} retransmitted":
		[null, "{count} erneut gesendet"],
	"{family} by {method}":
		[null, "{family} mit {method}"],
	"{loss} lost":
		[null, "{loss} verloren"],
	"{object}: removed or changed by another program repeatedly; restored every few seconds":
		[null, "{object}: von einem anderen Programm wiederholt entfernt oder geändert; wird alle paar Sekunden wiederhergestellt"],
	"{object}: removed or changed by another program {count} times recently, and restored":
		[null, "{object}: von einem anderen Programm kürzlich {count}-mal entfernt oder geändert, und wiederhergestellt"],
	"{path} was not saved":
		[null, "{path} wurde nicht gespeichert"],
	"{received} in, {sent} out":
		[null, "{received} ein, {sent} aus"],
	"{rule}: another program's rule comes before mproutd's and diverts {traffic} to {actual}":
		[null, "{rule}: Die Regel eines anderen Programms kommt vor denen von mproutd und leitet {traffic} nach {actual} um"],
	"{rule}: packets with this mark follow table main to {actual} instead of {expected}":
		[null, "{rule}: Pakete mit dieser Markierung folgen der Tabelle main nach {actual} statt {expected}"],
	"{traffic} leaves via {actual} instead of {expected}":
		[null, "{traffic} geht über {actual} statt {expected} hinaus"],
	"{uplink} cannot carry by overflow yet: the capacity of {regular} is unknown":
		[null, "{uplink} kann noch nicht als Überlauf dienen: die Kapazität von {regular} ist unbekannt"],
	"{uplink} is not usable: {reason}":
		[null, "{uplink} ist nicht nutzbar: {reason}"],
	"{uplink} is off, but the best default route in main leaves through it ({device}, {family}); other traffic goes via {expected} all the same":
		[null, "{uplink} ist off, aber die beste Default-Route in main führt dort hinaus ({device}, {family}); übriger Verkehr geht trotzdem über {expected}"],
	"{uplink} is {mode}, but other traffic ({families}) leaves there, and so would subflows to announced addresses: add_addr_accepted is {limit}":
		[null, "{uplink} ist {mode}, aber der übrige Verkehr ({families}) geht dort hinaus, und Subflows zu angekündigten Adressen gingen es auch: add_addr_accepted ist {limit}"],
	"{uplink}: another program has created an endpoint for {address}: {endpoint}; it is left unchanged":
		[null, "{uplink}: ein anderes Programm hat einen Endpunkt für {address} angelegt: {endpoint}; er bleibt unverändert"],
	"{uplink}: its health check probes no host: {reason}; a failure would go unnoticed":
		[null, "{uplink}: die Verbindungsprüfung fragt keinen Host: {reason}; ein Ausfall bliebe unbemerkt"],
	"{uplink}: mode {mode}":
		[null, "{uplink}: Modus {mode}"],
	"{uplink}: no endpoint for {address}: the kernel accepts at most {endpoints_max} endpoints":
		[null, "{uplink}: kein Endpunkt für {address}: der Kernel nimmt höchstens {endpoints_max} Endpunkte"],
	"{uplink}: no firewall mark: `mark_mask` has no room for another uplink":
		[null, "{uplink}: keine Firewall-Markierung: in `mark_mask` ist für keinen weiteren Uplink Platz"],
	"{uplink}: no gateway is known for {address}: {gateway} on {device} is in another subnet; no endpoint is kept there":
		[null, "{uplink}: für {address} ist kein Gateway bekannt: {gateway} an {device} liegt in einem anderen Subnetz; dort gibt es keinen Endpunkt"],
	"{uplink}: no way out via {device} for {address}: table main is looked up first, and its default route discards the packets ({route}); no endpoint is kept there":
		[null, "{uplink}: {address} kann nicht über {device} hinaus: die Tabelle main kommt zuerst, und ihre Default-Route verwirft die Pakete ({route}); der Endpunkt wird zurückgehalten"],
	"{uplink}: routed through another device than {device}: {address} ({command}); no endpoint is kept there":
		[null, "{uplink}: {address} wird über ein anderes Gerät als {device} geleitet ({command}); der Endpunkt wird zurückgehalten"],
	"{uplink}: table main has had no {families} default route via {device} for {duration}; the last known gateway {gateway} stays in use":
		[null, "{uplink}: die Tabelle main hat seit {duration} keine Default-Route für {families} über {device}; das zuletzt bekannte Gateway {gateway} bleibt in Gebrauch"],
	"{uplink}: the health check fails ({families}), but no other uplink is usable: it stays in use":
		[null, "{uplink}: die Verbindungsprüfung misslingt ({families}), aber kein anderer Uplink ist nutzbar: er bleibt in Gebrauch"],
	"{uplink}: the kernel does not support laminar endpoints (Linux 6.18 does); the option is ignored":
		[null, "{uplink}: der Kernel unterstützt keine laminaren Endpunkte (erst Linux 6.18); die Option bleibt unbeachtet"],
	"{uplink}: the quota is used up: {used} of {limit} until {until}; it stays in use as the last usable uplink":
		[null, "{uplink}: das Kontingent ist aufgebraucht: {used} von {limit} bis {until}; als letzter nutzbarer Uplink bleibt er in Benutzung"],
	"{uplink}: the quota is used up: {used} of {limit}; its mode is {mode} until {until}":
		[null, "{uplink}: das Kontingent ist aufgebraucht: {used} von {limit}; sein Modus ist {mode} bis {until}"],
	"{uplink}: {family} is not used: there are addresses, but no gateway":
		[null, "{uplink}: {family} wird nicht genutzt: es gibt Adressen, aber kein Gateway"],
	"{usable} of {count} uplinks usable":
		[null, "{usable} von {count} Uplinks nutzbar"],
	"{used} of {limit}":
		[null, "{used} von {limit}"],
});
