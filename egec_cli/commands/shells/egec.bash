# Completion of egec in bash. In ~/.bashrc: source <(egec completion bash)
# Typed text is not expanded, and answers of egec are not executed.
_egec() {
    local program=${1/#\~\//$HOME/} rest=${COMP_LINE:0:COMP_POINT} part=${COMP_WORDS[COMP_CWORD]} word answer i
    local -a words=()
    # bash also splits words at = and :. Join the parts that no blank separates.
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
