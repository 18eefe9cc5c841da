using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>General-purpose integer instructions and near branches.</summary>
internal static unsafe partial class IntegerTranslator
{
    public static bool TryTranslate(in Instruction instruction, Op* op, ref TranslationContext context) => false;
}
