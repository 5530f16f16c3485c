#compdef egec
# Completion of egec in zsh. In ~/.zshrc, after compinit: source <(egec completion zsh)
# Typed text is not expanded, and answers of egec are not executed.
_egec() {
    local program=${${(Q)words[1]}/#\~\//$HOME/} line
    local -a lines values shown
    lines=("${(@f)$("$program" completion zsh -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2> /dev/null < /dev/null)}")
    if [[ $lines[1] == files ]]; then
        _files
        return
    fi
    for line in "${(@)lines[2,-1]}"; do
        values+=("${line%%$'\t'*}")
        [[ $line == *$'\t'* ]] && shown+=("${line/$'\t'/  -- }") || shown+=("$line")
    done
    (($#values)) && compadd -l -d shown -a values
}
if [[ $funcstack[1] == _egec ]]; then
    _egec
else
    compdef _egec egec
fi
