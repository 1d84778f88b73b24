# fish completion: sluice itself knows its commands, and whom it has counted.
function __sluice_words
    set -lx COMP_LINE (commandline -cp)
    set -lx COMP_POINT (string length -- $COMP_LINE)
    sluice
end
complete -f -c sluice -a "(__sluice_words)"
