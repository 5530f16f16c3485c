# What bash completes for egec. In ~/.bashrc: source <(egec completion bash)
# Nothing of what was typed is expanded, and nothing that egec answers is executed.
_egec() {
    local program=${1/#\~\//$HOME/} rest=${COMP_LINE:0:COMP_POINT} part=${COMP_WORDS[COMP_CWORD]} word answer i
    local -a words=()
    # bash parts words at = and : too; those between which there is no blank are one.
    for ((i = 0; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i)) && [[ $rest == "$word"* ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        rest=${rest#*"$word"}
    done
    if [[ -z $rest || $rest == [[:blank:]]* ]]; then
        rest=${rest#"${rest%%[![:blank:]]*}"}
        words+=("$rest")
    else
        words[${#words[@]} - 1]+=$rest
    fi
    COMPREPLY=()
    {
        IFS= read -r answer
        if [[ $answer == files ]]; then
            compopt -o default 2> /dev/null
        else
            while IFS= read -r word; do COMPREPLY+=("$word"); done
        fi
    } < <("$program" completion bash -- "${words[@]:1}" "$rest" 2> /dev/null < /dev/null)
}
complete -F _egec egec
