# bash completion: sluice itself knows its commands, and whom it has counted.
complete -C sluice sluice
